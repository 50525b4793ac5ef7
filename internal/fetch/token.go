package fetch

import (
	"sync"

	"polarmirror/internal/secret"
)

// A Token is an organization's access token. It is read when first used, and again
// whenever Polar refuses it, so that one replaced on disk is taken up without a
// restart.
type Token struct {
	read func() (secret.Secret, error)

	mu    sync.Mutex
	known secret.Secret // zero until first read
}

// StaticToken is a token that never changes.
func StaticToken(token secret.Secret) *Token {
	return RereadToken(func() (secret.Secret, error) { return token, nil })
}

// RereadToken is a token that read returns, which is called by one caller at a time.
func RereadToken(read func() (secret.Secret, error)) *Token { return &Token{read: read} }

// get returns the token to use now.
func (t *Token) get() (secret.Secret, error) {
	t.mu.Lock()
	known := t.known
	t.mu.Unlock()
	if !known.IsZero() {
		return known, nil
	}
	return t.reread()
}

// reread looks for a newer token, since Polar refused one, and returns what get
// returns from now on. It may be the same.
func (t *Token) reread() (secret.Secret, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	token, err := t.read()
	if err != nil {
		return secret.Secret{}, err
	}
	t.known = token
	return token, nil
}
