package config

import (
	"fmt"
	"net"

	"github.com/google/uuid"
)

// validate checks what only shows once every value is in: keys that contradict
// each other, and keys that must be there.
func (d *decoder) validate(c *Config) {
	if r := c.Polar.Retry; r.MaxInterval < r.InitialInterval {
		path := d.firstGiven("polar.retry.max_interval", "polar.retry.initial_interval")
		d.report(d.place(path), path, "max_interval, %v, is below initial_interval, %v; swap them, or raise max_interval",
			r.MaxInterval, r.InitialInterval)
	}
	if need := c.Sync.Concurrency + SpareConnections; c.Database.MaxConnections < need {
		path := d.firstGiven("database.max_connections", "sync.concurrency")
		d.report(d.place(path), path, "%d connections are too few for %d organizations at a time: each holds one, and %d more are needed; "+
			"set database.max_connections to %d or more, or lower sync.concurrency",
			c.Database.MaxConnections, c.Sync.Concurrency, SpareConnections, need)
	}
	d.validateHTTP(c.HTTP)
	d.validateOrganizations(c.Organizations)
}

// validateHTTP reports settings of http that contradict each other, or that would
// show the mirror to everyone.
func (d *decoder) validateHTTP(h HTTP) {
	if h.Listen != "" && h.Listen == h.WebhookListen {
		d.report(d.place("http.webhook_listen"), "http.webhook_listen",
			`is the same address as http.listen; write "" to take webhooks there, or another port`)
	}
	d.notBoth("http", "token", h.Token)
	d.notBoth("http", "password", h.Password)
	switch {
	case h.User != "" && h.Password.IsZero():
		d.report(d.place("http.user"), "http.user", "has no password; add http.password or http.password_file")
	case h.User == "" && !h.Password.IsZero() && !d.faulty("http.user"):
		path := d.firstGiven("http.password", "http.password_file")
		d.report(d.place(path), path, "has no user; add http.user")
	case !h.Protected() && h.Listen != "" && !LoopbackListen(h.Listen):
		d.report(d.place("http.listen"), "http.listen", "would show the status page and the metrics to everyone who reaches this machine; "+
			"set http.token (or token_file), or http.user and http.password (or password_file), or listen on 127.0.0.1")
	}
}

// validateOrganizations reports what organizations lack, or share.
func (d *decoder) validateOrganizations(organizations []Organization) {
	if len(organizations) == 0 && !d.faulty("organizations") {
		d.report(d.place("organizations"), "organizations",
			"want at least one; begin with a line such as \"- name: acme\", and see config.example.yaml")
	}
	first := map[string]position{} // where each name and each id was given first
	for i, o := range organizations {
		path := fmt.Sprintf("organizations[%d]", i)
		if d.faulty(path + ": want") { // no section at all
			continue
		}
		if !d.given(path + ".name") {
			d.report(d.place(path), path, "has no name; add name: and a label of your choice, such as acme")
		}
		if !d.given(path + ".id") {
			d.report(d.place(path), path, "has no id; add id: and the organization's id at Polar, a UUID")
		}
		if !d.given(path+".access_token") && !d.given(path+".access_token_file") {
			d.report(d.place(path), path, "has no access token; add access_token: ${POLAR_ACCESS_TOKEN}, or access_token_file: and a path")
		}
		d.notBoth(path, "access_token", o.AccessToken)
		d.notBoth(path, "webhook_secret", o.WebhookSecret)
		for key, text := range map[string]string{".name": o.Name, ".id": o.ID.String()} {
			at, again := first[key+text]
			switch {
			case text == "" || text == uuid.Nil.String(): // wrong or missing, and reported
			case again:
				d.report(d.place(path+key), path+key, "is that of the organization in line %d too; every one needs its own", at.line)
			default:
				first[key+text] = d.place(path + key)
			}
		}
	}
}

// notBoth reports a credential that is given twice.
func (d *decoder) notBoth(path, key string, c Credential) {
	if !c.Value.IsZero() && c.File != "" {
		d.report(d.place(path+"."+key+"_file"), path, "has both %s and %s_file; keep one", key, key)
	}
}

// LoopbackListen reports whether only this machine reaches a listener at
// host:port.
func LoopbackListen(address string) bool {
	host, _, err := net.SplitHostPort(address)
	return err == nil && loopback(host)
}
