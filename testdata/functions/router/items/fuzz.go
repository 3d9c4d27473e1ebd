package items

import (
	"bufio"
	"bytes"
	"net/http"
	"net/http/httptest"
)

// Fuzz has a server answer one request, as it stands on the wire. What is no request is not
// worth keeping, and one that is answered well is worth more.
func Fuzz(b Bugs, data []byte) int {
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(data)))
	if err != nil {
		return -1
	}
	w := httptest.NewRecorder()
	New(b).Handler().ServeHTTP(w, r)
	if w.Code >= 400 {
		return 0
	}
	return 1
}
