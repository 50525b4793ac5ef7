package web_test

import (
	"net/http"
	"testing"
	"time"
)

// TestEmptyKeySignsNothing: a secret that is empty, or nothing but a prefix, makes
// no key, since anyone can sign with an empty one.
func TestEmptyKeySignsNothing(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "whsec_", "polar_whs_"} {
		inbox := &fakeInbox{}
		handler := endpointOf(fixed(text), inbox, ignored)
		got := post(t, handler, func(r *http.Request) { sign(r, "", "msg_1", time.Now(), `{"type":"customer.updated"}`) })
		if got.Code != 403 || len(inbox.kept) > 0 {
			t.Errorf("secret %q: a delivery signed with the empty key was answered with %d, and %d were kept", text, got.Code, len(inbox.kept))
		}
	}
}
