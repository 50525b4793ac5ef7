package config

import (
	"fmt"
	"net"
	"strings"
)

// Warnings returns what is allowed and probably not meant, one line each,
// without secrets.
func (c *Config) Warnings() []string {
	warnings := append([]string(nil), c.exposed...)
	add := func(format string, args ...any) { warnings = append(warnings, fmt.Sprintf(format, args...)) }
	if c.Schedule.Incremental.Never() && c.Schedule.Full.Never() {
		add("schedule.incremental and schedule.full are both empty: the service will sync nothing by itself")
	} else if c.Schedule.Full.Never() {
		add("schedule.full is empty: deletions, and changes that a tick missed, will not be found")
	}
	rpm := c.Polar.RequestsPerMinute
	if strings.HasPrefix(c.Polar.BaseURL, SandboxURL) && (rpm == 0 || rpm > sandboxLimit) {
		add("polar.requests_per_minute is above the %d that Polar's sandbox allows: runs will spend their time waiting; set it to 60", sandboxLimit)
	}
	if c.HTTP.Listen == "" && c.HTTP.WebhookListen == "" {
		for _, o := range c.Organizations {
			if !o.WebhookSecret.IsZero() {
				add("organization %s has a webhook secret, but http.listen and http.webhook_listen are empty: no webhook will arrive", o.Name)
			}
		}
	}
	if host, _, err := net.SplitHostPort(c.HTTP.Listen); err == nil && !loopback(host) {
		add("http.listen is open to other machines, and so are the status page and the metrics; use 127.0.0.1, and http.webhook_listen for webhooks")
	}
	return warnings
}
