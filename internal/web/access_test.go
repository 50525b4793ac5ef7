package web

import (
	"encoding/base64"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"polarmirror/internal/config"
)

func basic(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

func TestReadingTakesTheConfiguredCredential(t *testing.T) {
	t.Parallel()
	const token, password = "tok-" + canary, "pass:" + canary
	byToken := newRig(t, Options{HTTP: config.HTTP{Token: fixed(token)}}, handlers(well())).URL()
	byPassword := newRig(t, Options{HTTP: config.HTTP{User: "operator", Password: fixed(password)}}, handlers(well())).URL()
	byEither := newRig(t, Options{HTTP: config.HTTP{Token: fixed(token), User: "operator", Password: fixed(password)}}, handlers(well())).URL()
	tests := []struct {
		name, shown             string
		token, password, either int
	}{
		{"nothing", "", 401, 401, 401},
		{"the token", "Bearer " + token, 200, 401, 200},
		{"the token, in another case of its scheme", "bEARER " + token, 200, 401, 200},
		{"user and password", basic("operator", password), 401, 200, 200},
		{"another token", "Bearer " + token + "x", 401, 401, 401},
		{"a part of the token", "Bearer " + token[:9], 401, 401, 401},
		{"an empty token", "Bearer ", 401, 401, 401},
		{"no token", "Bearer", 401, 401, 401},
		{"another user", basic("Operator", password), 401, 401, 401},
		{"another password", basic("operator", token), 401, 401, 401},
		{"no password", basic("operator", ""), 401, 401, 401},
		{"nobody", basic("", ""), 401, 401, 401},
		{"the token as a password", basic("", token), 401, 401, 401},
		{"no base64", "Basic !!!", 401, 401, 401},
		{"another scheme", "Digest " + token, 401, 401, 401},
		{"the password as a token", "Bearer " + password, 401, 401, 401},
	}
	for _, tt := range tests {
		for base, want := range map[string]int{byToken: tt.token, byPassword: tt.password, byEither: tt.either} {
			for _, path := range []string{"/", "/metrics", "/customers/1"} {
				response, _ := get(t, base, path, header("Authorization", tt.shown))
				if response.StatusCode != want {
					t.Errorf("%s, %s: %d, want %d", tt.name, path, response.StatusCode, want)
				}
				if asks := response.Header.Values("WWW-Authenticate"); want == 401 && len(asks) == 0 {
					t.Errorf("%s, %s: the answer does not say what it wants", tt.name, path)
				}
			}
		}
	}
	response, _ := get(t, byEither, "/")
	if got := strings.Join(response.Header.Values("WWW-Authenticate"), ", "); got != `Basic realm="syncd", charset="UTF-8", Bearer realm="syncd"` {
		t.Errorf("asks for %s", got)
	}
}

func TestHealthAndWebhooksStayOpen(t *testing.T) {
	t.Parallel()
	base := newRig(t, Options{HTTP: config.HTTP{Token: fixed("x")}}, handlers(well())).URL()
	for path, change := range map[string]func(*http.Request){
		"/healthz": host("localhost"), "/readyz": host("localhost"), "/healthz/data": host("localhost"), "/webhooks/polar/acme": post,
	} {
		if response, _ := get(t, base, path, change); response.StatusCode >= 300 {
			t.Errorf("%s: %d", path, response.StatusCode)
		}
	}
}

func TestReplacedCredentialCountsAtOnceAndAnUnreadableOneLetsNobodyIn(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "token")
	hold := func(token string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(token), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	hold("first-" + canary)
	r := newRig(t, Options{HTTP: config.HTTP{Token: config.Credential{File: path}}}, handlers(well()))
	status := func(token string) int {
		response, _ := get(t, r.URL(), "/", header("Authorization", "Bearer "+token))
		return response.StatusCode
	}
	if got := status("first-" + canary); got != 200 {
		t.Errorf("the first: %d", got)
	}
	hold("second-" + canary)
	if a, b := status("first-"+canary), status("second-"+canary); a != 401 || b != 200 {
		t.Errorf("after the change: the first %d, the second %d", a, b)
	}
	hold("")
	if got := status(""); got != 503 {
		t.Errorf("with an empty file nothing is answered with %d", got)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	for _, token := range []string{"", "second-" + canary} {
		if got := status(token); got != 503 {
			t.Errorf("%q while the token cannot be read: %d", token, got)
		}
	}
}

func TestForeignHostIsRefusedOnLoopback(t *testing.T) {
	t.Parallel()
	r := newRig(t, Options{HTTP: config.HTTP{Hosts: []string{"syncd.example.com"}, WebhookListen: "127.0.0.1:0", Listen: "127.0.0.1:0"}}, handlers(well()))
	for name, want := range map[string]int{
		"127.0.0.1": 200, "127.0.0.1:9": 200, "127.8.8.8": 200, "[::1]:8080": 200, "localhost": 200, "LOCALHOST:1": 200, "localhost.": 200, "x.localhost": 200,
		"syncd.example.com": 200, "syncd.example.com:443": 200, "Syncd.Example.com.": 200,
		"evil.example": 421, "evil.example:8080": 421, "localhost.evil.example": 421, "notlocalhost": 421, "10.0.0.1": 421, "[2001:db8::1]": 421, "0.0.0.0": 421, "a.syncd.example.com": 421, "127.0.0.1.evil.example": 421,
	} {
		for _, path := range []string{"/", "/metrics", "/healthz/data", "/customers/1"} {
			response, body := get(t, r.URL(), path, host(name))
			if response.StatusCode != want {
				t.Errorf("Host %s, %s: %d, want %d", name, path, response.StatusCode, want)
			}
			if want == 421 && (!strings.Contains(body, "http.hosts") || strings.Contains(body, "the page")) {
				t.Errorf("Host %s, %s: answer %q", name, path, body)
			}
		}
		for _, path := range []string{"/healthz", "/readyz"} {
			if response, _ := get(t, r.URL(), path, host(name)); response.StatusCode != 200 {
				t.Errorf("Host %s, %s: %d", name, path, response.StatusCode)
			}
		}
		if response, _ := get(t, r.WebhookURL(), "/webhooks/polar/acme", host(name), post); response.StatusCode != 202 {
			t.Errorf("Host %s, webhook: %d", name, response.StatusCode)
		}
	}
}

func TestHostBeyondLoopback(t *testing.T) {
	t.Parallel()
	for name, want := range map[string][2]bool{ // without and with configured names
		"10.1.2.3:8080": {true, true}, "[fd00::7]:8080": {true, true}, "localhost": {true, true}, "127.0.0.1": {true, true},
		"syncd.example.com": {true, true}, "monitoring.svc:8080": {true, false}, "": {true, false},
	} {
		got := [2]bool{hostKnown(name, false, nil), hostKnown(name, false, []string{"syncd.example.com"})}
		if got != want {
			t.Errorf("Host %q: %v, want %v", name, got, want)
		}
	}
}

func TestProfilesAreOnLoopbackUnlessToldOtherwise(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		"6060": "127.0.0.1:6060", ":6060": "127.0.0.1:6060", "0.0.0.0:6060": "0.0.0.0:6060", "[::1]:1": "[::1]:1", "localhost:7": "localhost:7",
	} {
		if got := profileAddress(given); got != want {
			t.Errorf("%s: %s, want %s", given, got, want)
		}
	}
}
