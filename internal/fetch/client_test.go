package fetch

import (
	"strings"
	"testing"
)

func TestBaseURLsThatWouldMisleadTheTokenAreRefused(t *testing.T) {
	t.Parallel()
	for base, ok := range map[string]bool{
		"https://api.polar.sh": true, "https://api.polar.sh/": true, "http://127.0.0.1:8080": true,
		"http://[::1]:1": true, "http://localhost": true, "https://proxy.example/polar": true,
		"http://api.polar.sh": false, "api.polar.sh": false, "": false, "ftp://api.polar.sh": false,
		"https://": false, "https://u:p@api.polar.sh": false, "https://api.polar.sh?x=1": false,
		"http://127.0.0.1.evil.example": false, "://": false, "https://u:p%zz@x": false,
	} {
		o := options(nil)
		o.BaseURL = base
		if _, err := New(o); (err == nil) != ok {
			t.Errorf("base_url %q: %v", base, err)
		} else if err != nil && strings.Contains(err.Error(), "u:p") {
			t.Errorf("%v shows a password", err)
		}
	}
	o := options(nil)
	o.Token = nil
	if _, err := New(o); err == nil {
		t.Error("no token, no error")
	}
}
