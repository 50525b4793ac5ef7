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
