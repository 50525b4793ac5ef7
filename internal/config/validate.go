package config

import (
	"fmt"
	"net"
	"strings"

	"github.com/google/uuid"
)

// validate checks what only shows once every value is in: keys that contradict
// each other, and keys that must be there.
func (d *decoder) validate(c *Config) {
	if r := c.Polar.Retry; r.MaxInterval < r.InitialInterval {
		d.report(d.place("polar.retry.max_interval"), "polar.retry", "max_interval, %v, is below initial_interval, %v; swap them, or raise max_interval",
			r.MaxInterval, r.InitialInterval)
	}
	if need := c.Sync.Concurrency + SpareConnections; c.Database.MaxConnections < need {
		path := "database.max_connections"
		if !d.given(path) {
			path = "sync.concurrency"
		}
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
	host, _, _ := net.SplitHostPort(h.Listen) // it is host:port or ""
	switch {
	case h.User != "" && h.Password.IsZero():
		d.report(d.place("http.user"), "http.user", "has no password; add http.password or http.password_file")
	case h.User == "" && !h.Password.IsZero() && !d.faulty("http.user"):
		d.report(d.place("http.password"), "http.password", "has no user; add http.user")
	case !h.Protected() && h.Listen != "" && !loopback(host):
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
				d.report(d.place(path+key), path+key, "is already used by the organization on line %d; each needs its own", at.line)
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

// Warnings returns what is allowed and probably not meant, one line each,
// without secrets.
func (c *Config) Warnings() []string {
	var warnings []string
	add := func(format string, args ...any) { warnings = append(warnings, fmt.Sprintf(format, args...)) }
	if c.Schedule.Incremental.Never() && c.Schedule.Full.Never() {
		add("schedule.incremental and schedule.full are both empty: the service will sync nothing by itself")
	} else if c.Schedule.Full.Never() {
		add("schedule.full is empty: deletions, and changes that a tick missed, will not be found")
	}
	if c.Polar.APIVersion < DefaultAPIVersion { // year and month: the order of texts is that of time
		add("polar.api_version %s is older than %s, which this syncd is made for: Polar removes old versions and then answers nothing else than 404; leave the key out, or set it to \"%[2]s\"", c.Polar.APIVersion, DefaultAPIVersion)
	}
	rpm := c.Polar.RequestsPerMinute
	if strings.HasPrefix(c.Polar.BaseURL, SandboxURL) && (rpm == 0 || rpm > sandboxLimit) {
		add("polar.requests_per_minute is above the %d that Polar's sandbox allows: runs will spend their time waiting; set it to 60", sandboxLimit)
	}
	for _, o := range c.Organizations {
		if !o.WebhookSecret.IsZero() && c.HTTP.Listen == "" && c.HTTP.WebhookListen == "" {
			add("organization %s has a webhook secret, but http.listen and http.webhook_listen are empty, so that no webhook arrives: set one, or take the secret out", o.Name)
		}
	}
	return warnings
}
