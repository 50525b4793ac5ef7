package config

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"time"
)

// HTTP says where syncd listens, as host:port, and who may read what it shows.
type HTTP struct {
	Listen        string        // "" = off
	WebhookListen string        // "" = webhooks on Listen
	MaxLag        time.Duration // positive
	Hosts         []string      // names, lower case, that clients may call Listen by, besides loopback's own

	// Who reads the page or the metrics must show the token, or user and
	// password. Without either anyone may, which Load allows on loopback alone.
	Token    Credential
	User     string // "" = no password
	Password Credential
}

// Protected reports whether reading the page and the metrics takes a credential.
func (h HTTP) Protected() bool { return !h.Token.IsZero() || h.User != "" }

// What a credential of ours must be at least; Polar's own are not ours to judge.
const (
	shortestToken    = 16
	shortestPassword = 8
)

func httpFields(h *HTTP) fields {
	return fields{
		"listen":         scalarInto(listenAddress(&h.Listen, "to switch it off")),
		"webhook_listen": scalarInto(listenAddress(&h.WebhookListen, "to take webhooks on http.listen")),
		"max_lag":        scalarInto(duration(&h.MaxLag, positive)),
		"hosts":          list(elements(&h.Hosts, parseHost)),
		"token":          credentialValue(&h.Token, httpToken()),
		"token_file":     credentialFile(&h.Token, httpToken()),
		"user":           scalarInto(userName(&h.User)),
		"password":       credentialValue(&h.Password, httpPassword()),
		"password_file":  credentialFile(&h.Password, httpPassword()),
	}
}

func httpToken() credentialRule {
	return credentialRule{check: func(text string) error {
		if len(text) < shortestToken {
			return errors.New("is too short to keep anyone out; want 16 characters or more, such as openssl rand -hex 32 prints")
		}
		return checkToken(text)
	}}
}

func httpPassword() credentialRule {
	return credentialRule{check: func(text string) error {
		if len(text) < shortestPassword {
			return errors.New("is too short to keep anyone out; want 8 characters or more")
		}
		return checkSecret(text)
	}}
}

// userName stores a name that basic authentication can carry.
func userName(dst *string) func(string) error {
	return func(text string) error {
		*dst = text // also a wrong one, so that the password is not said to be without a user
		if strings.ContainsAny(text, ":\x00\r\n") || strings.TrimSpace(text) != text || len(text) > 255 {
			return errors.New(`want a user's name without ":", or "" for none`)
		}
		return nil
	}
}

// parseHost accepts a name or an address without a port.
func parseHost(text string) (string, error) {
	host := strings.ToLower(strings.Trim(text, "[]"))
	if _, err := netip.ParseAddr(host); err != nil && !hostShape.MatchString(host) {
		return "", errors.New("want a host's name without scheme and port, such as syncd.example.com")
	}
	return host, nil
}

// settleHTTP reports settings of http that contradict each other, or that would
// show the mirror to everyone.
func (d *decoder) settleHTTP(h HTTP) {
	if h.Listen != "" && h.Listen == h.WebhookListen {
		d.report(d.place("http.webhook_listen"), "http.webhook_listen",
			`is the same address as http.listen; write "" to take webhooks there, or another port`)
	}
	d.exclude("http", "token", h.Token)
	d.exclude("http", "password", h.Password)
	switch {
	case h.User != "" && h.Password.IsZero():
		d.report(d.place("http.user"), "http.user", "has no password; add http.password or http.password_file")
	case h.User == "" && !h.Password.IsZero():
		path := "http.password"
		if !d.given(path) {
			path = "http.password_file"
		}
		d.report(d.place(path), path, "has no user; add http.user")
	case !h.Protected() && h.Listen != "" && !LoopbackListen(h.Listen):
		d.report(d.place("http.listen"), "http.listen", "would show the status page and the metrics to everyone who reaches this machine; "+
			"set http.token (or token_file), or http.user and http.password (or password_file), or listen on 127.0.0.1")
	}
}

// LoopbackListen reports whether only this machine reaches a listener at
// host:port.
func LoopbackListen(address string) bool {
	host, _, err := net.SplitHostPort(address)
	return err == nil && loopback(host)
}
