//go:build unix

package main

import (
	"encoding/json"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
)

func TestDemoListensElsewhereWhenThePortIsTaken(t *testing.T) {
	t.Parallel()
	large(t)
	// Held by us, or by somebody else: taken either way.
	if taken, err := net.Listen("tcp", demoConfig().HTTP.Listen); err == nil {
		defer taken.Close()
	}
	dir := demoFolder(t)
	p := start(t, dir, "--demo")
	var url string
	eventually(t, "the address", func() bool {
		found := regexp.MustCompile(`(http://127\.0\.0\.1:\d+/)healthz/data`).FindStringSubmatch(p.stdout.String())
		if found != nil {
			url = found[1]
		}
		return found != nil
	})
	response, err := http.Get(url + "healthz/data")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var answer struct {
		Organizations []struct{ Organization string }
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil || len(answer.Organizations) != 3 || strings.Contains(url, ":8080/") {
		t.Errorf("%s: %+v, %v", url, answer, err)
	}
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if r := p.end(t); r.code != exitDone {
		t.Errorf("exit code %d, stderr:\n%s", r.code, r.stderr)
	}
}
