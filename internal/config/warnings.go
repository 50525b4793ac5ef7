package config

import (
	"fmt"
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
	for _, o := range c.Organizations {
		if !o.WebhookSecret.IsZero() {
			add("organization %s has a webhook secret, but this version receives no webhooks: changes arrive with schedule.incremental", o.Name)
		}
	}
	if !c.HeartbeatURL.IsZero() {
		add("heartbeat_url is set, but this version sends no heartbeat: watch polar.sync_status instead")
	}
	return warnings
}
