package harness

// Outcome says what an HTTP status proves about a call. A rejection is final: the call
// was surely not applied. Any other error leaves a mutation's outcome unknown; a call
// that changes nothing has simply failed.
func Outcome(status int, mutates bool) Kind {
	if status >= 100 && status < 400 {
		return OK
	}
	switch status {
	case 400, 401, 403, 404, 405, 410, 412, 413, 415, 422:
		return Fail
	}
	if mutates {
		return Unknown
	}
	return Fail
}
