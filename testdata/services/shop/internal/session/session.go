// Package session makes and checks the tokens of users who have logged in. A token is
// signed and holds all that is needed to check it, so that nobody is logged out when a
// store is down or the service restarts.
package session

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
	"time"
)

// ErrToken is the error of a token that is broken, forged or expired.
var ErrToken = errors.New("log in first")

const life = 12 * time.Hour

// Signer signs tokens.
type Signer struct{ Key []byte }

// Token returns a token for a user.
func (s Signer) Token(user string, now time.Time) string {
	body := base64.RawURLEncoding.EncodeToString([]byte(user)) + "." + strconv.FormatInt(now.Add(life).Unix(), 36)
	return body + "." + s.sign(body)
}

// User returns the user whom a token belongs to.
func (s Signer) User(token string, now time.Time) (string, error) {
	cut := strings.LastIndexByte(token, '.')
	if cut < 0 || !hmac.Equal([]byte(s.sign(token[:cut])), []byte(token[cut+1:])) {
		return "", ErrToken
	}
	name, until, _ := strings.Cut(token[:cut], ".")
	end, err := strconv.ParseInt(until, 36, 64)
	if err != nil || now.Unix() > end {
		return "", ErrToken
	}
	user, err := base64.RawURLEncoding.DecodeString(name)
	if err != nil {
		return "", ErrToken
	}
	return string(user), nil
}

func (s Signer) sign(body string) string {
	h := hmac.New(sha256.New, s.Key)
	h.Write([]byte(body))
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}
