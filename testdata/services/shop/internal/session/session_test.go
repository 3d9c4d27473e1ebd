package session

import (
	"testing"
	"time"
)

func TestToken(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_700_000_000, 0)
	s := Signer{Key: []byte("key")}
	token := s.Token("ann.1", now)
	if user, err := s.User(token, now.Add(time.Hour)); err != nil || user != "ann.1" {
		t.Errorf("User = %q, %v", user, err)
	}
	if _, err := s.User(token, now.Add(13*time.Hour)); err == nil {
		t.Error("an expired token is taken")
	}
	if _, err := (Signer{Key: []byte("other")}).User(token, now); err == nil {
		t.Error("a token with another's signature is taken")
	}
	for _, bad := range []string{"", ".", "..", "x" + token, token + "x", token[:len(token)/2]} {
		if _, err := s.User(bad, now); err == nil {
			t.Errorf("the token %q is taken", bad)
		}
	}
}
