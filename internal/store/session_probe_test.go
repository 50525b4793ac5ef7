package store_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"polarmirror/internal/pgtest"
	"polarmirror/internal/secret"
	"polarmirror/internal/store"
)

func TestProxyThatPoolsByTransactionIsRefusedHoweverItLends(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	for _, opts := range []pgtest.PoolerOptions{
		{Size: 1}, {Size: 2}, {Size: 5},
		{Size: 2, TakeTurns: true}, {Size: 3, TakeTurns: true}, {Size: 7, TakeTurns: true},
		{Size: 1, SameKeys: true}, {Size: 4, SameKeys: true},
	} {
		t.Run(fmt.Sprintf("%+v", opts), func(t *testing.T) {
			t.Parallel()
			st, err := store.Open(t.Context(), store.Options{URL: secret.New(pgtest.NewPooler(t, db.URL, opts))})
			if err == nil {
				st.Close()
			}
			var refused *store.UnusableError
			if !errors.As(err, &refused) {
				t.Fatalf("got %v, want a refusal", err)
			}
			if text := err.Error(); !strings.Contains(text, "does not keep a connection's session") || !strings.Contains(text, "direct address") || strings.Contains(text, "\n") {
				t.Errorf("no cure, or more than a line: %s", text)
			}
		})
	}
}

func TestRefusedProxyIsLeftWithoutOurSettings(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	address := pgtest.NewPooler(t, db.URL, pgtest.PoolerOptions{Size: 1})
	if _, err := store.Open(t.Context(), store.Options{URL: secret.New(address)}); err == nil {
		t.Fatal("the proxy was not refused")
	}
	if got := show(t, address, "search_path", "tcp_user_timeout"); got != `"$user", public 0` {
		t.Errorf("another program's search path and time-out are %s now", got)
	}
}

func TestProxyThatPoolsBySessionIsUsed(t *testing.T) {
	t.Parallel()
	address := pgtest.NewSessionPooler(t, pgtest.New(t).URL, 4)
	st, err := store.Open(t.Context(), store.Options{URL: secret.New(address), MaxConnections: 3})
	if err != nil {
		t.Fatal(err)
	}
	st.Close()
}

func TestProxyWithOneSessionIsNotTakenForOneThatPoolsByTransaction(t *testing.T) {
	t.Parallel()
	address := pgtest.NewSessionPooler(t, pgtest.New(t).URL, 1)
	_, err := store.Open(t.Context(), store.Options{URL: secret.New(address)})
	var unreachable *store.UnusableError
	if !errors.As(err, &unreachable) || !strings.Contains(unreachable.Problem, "a second connection got no answer") {
		t.Errorf("got %v", err)
	}
}
