package fetch

import (
	"context"
	"sync"

	"polarmirror/internal/secret"
)

// A TokenSource holds an organization's access token.
type TokenSource interface {
	// Token returns the token to use now.
	Token(ctx context.Context) (secret.Secret, error)
	// Refresh looks for a newer token, since Polar refused one, and returns
	// what Token returns from now on. It may be the same.
	Refresh(ctx context.Context) (secret.Secret, error)
}

// StaticToken is a token that never changes.
func StaticToken(token secret.Secret) TokenSource { return staticToken{token} }

type staticToken struct{ token secret.Secret }

func (s staticToken) Token(context.Context) (secret.Secret, error)   { return s.token, nil }
func (s staticToken) Refresh(context.Context) (secret.Secret, error) { return s.token, nil }

// RereadToken is a token that is read when first used, and again whenever Polar
// refuses it, so that one replaced on disk is taken up without a restart. The
// function read is called by one caller at a time.
func RereadToken(read func() (secret.Secret, error)) TokenSource { return &rereadToken{read: read} }

type rereadToken struct {
	read func() (secret.Secret, error)

	mu    sync.Mutex
	token secret.Secret // zero until first read
}

func (r *rereadToken) Token(ctx context.Context) (secret.Secret, error) {
	r.mu.Lock()
	known := r.token
	r.mu.Unlock()
	if !known.IsZero() {
		return known, nil
	}
	return r.Refresh(ctx)
}

func (r *rereadToken) Refresh(context.Context) (secret.Secret, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	token, err := r.read()
	if err != nil {
		return secret.Secret{}, err
	}
	r.token = token
	return token, nil
}
