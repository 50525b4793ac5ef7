package config

import (
	"errors"
	"math"
	"time"

	"polarmirror/internal/secret"
)

// document is every key but those of an organization, bound to c.
func document(c *Config) fields {
	return fields{
		"polar":         section(polarFields(&c.Polar)),
		"organizations": list(func(d *decoder, v value) { d.organization(c, v) }),
		"database": section(fields{
			"url":             databaseField(&c.Database),
			"data_dir":        scalarInto(nonEmpty(&c.Database.DataDir)),
			"max_connections": scalarInto(integer(&c.Database.MaxConnections, 1, math.MaxInt16)),
		}),
		"schedule": section(fields{
			"incremental":  cronField(&c.Schedule.Incremental),
			"full":         cronField(&c.Schedule.Full),
			"timezone":     scalarInto(timezone(&c.Schedule.Location)),
			"run_on_start": scalarInto(boolean(&c.Schedule.RunOnStart)),
		}),
		"sync": section(fields{
			"concurrency":         scalarInto(integer(&c.Sync.Concurrency, 1, 1000)),
			"max_delete_fraction": scalarInto(fraction(&c.Sync.MaxDeleteFraction, 0, 1)),
		}),
		"history":       section(fields{"keep": scalarInto(duration(&c.History.Keep, 0))}),
		"http":          section(httpFields(&c.HTTP)),
		"heartbeat_url": optionalSecret(&c.HeartbeatURL, webURL),
		"log":           section(logFields(&c.Log)),
	}
}

func polarFields(p *Polar) fields {
	return fields{
		"base_url":            scalarInto(baseURL(&p.BaseURL)),
		"api_version":         scalarInto(apiVersion(&p.APIVersion)),
		"requests_per_minute": scalarInto(integer(&p.RequestsPerMinute, 0, 1_000_000)),
		"concurrency":         scalarInto(integer(&p.Concurrency, 1, 1000)),
		"timeout":             scalarInto(duration(&p.Timeout, positive)),
		"retry": section(fields{
			"initial_interval":        scalarInto(duration(&p.Retry.InitialInterval, positive)),
			"max_interval":            scalarInto(duration(&p.Retry.MaxInterval, positive)),
			"exponent":                scalarInto(fraction(&p.Retry.Exponent, 1, 100)),
			"max_elapsed_time":        scalarInto(duration(&p.Retry.MaxElapsedTime, positive)),
			"retry_connection_errors": scalarInto(boolean(&p.Retry.RetryConnectionErrors)),
		}),
	}
}

func logFields(l *Log) fields {
	return fields{
		"level":  parsedInto(&l.Level, ParseLevel),
		"format": parsedInto(&l.Format, ParseFormat),
	}
}

// databaseField is the setter of database.url. An empty one is the embedded
// database.
func databaseField(c *Database) setter {
	return fromScalar(func(d *decoder, s scalar) error {
		if s.text == "" {
			c.URL = secret.Secret{}
			return nil
		}
		d.literal = d.literal || len(s.vars) == 0 && hasPassword(s.text)
		c.URL = secret.New(s.text)
		return databaseURL(s.text)
	})
}

// optionalSecret is the setter of a secret that may be empty.
func optionalSecret(dst *secret.Secret, check func(string) error) setter {
	return scalarInto(func(text string) error {
		if text != "" {
			if err := check(text); err != nil {
				return err
			}
		}
		*dst = secret.New(text)
		return nil
	})
}

func cronField(dst *Cron) setter {
	return scalarInto(func(text string) error {
		if _, err := Cron(text).In(time.UTC); err != nil {
			return err
		}
		*dst = Cron(text)
		return nil
	})
}

func timezone(dst **time.Location) func(string) error {
	return func(text string) error {
		if text == "" || text == "Local" {
			return errors.New("want the name of a time zone, such as UTC or Europe/Berlin, so that every replica means the same")
		}
		location, err := time.LoadLocation(text)
		if err != nil {
			return errors.New("no such time zone; want a name of the IANA database, such as UTC or Europe/Berlin")
		}
		*dst = location
		return nil
	}
}

// settle checks what only shows once every value is in: keys that contradict
// each other, and keys that must be there.
func (d *decoder) settle(c *Config) {
	if r := c.Polar.Retry; r.MaxInterval < r.InitialInterval {
		path := "polar.retry.max_interval"
		if !d.given(path) {
			path = "polar.retry.initial_interval"
		}
		d.report(d.place(path), path, "max_interval, %v, is below initial_interval, %v; swap them, or raise max_interval",
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
	d.settleHTTP(c.HTTP)
	d.settleOrganizations(c)
}

// homes says where a key belongs that was found in the wrong place.
func homes() map[string]string {
	known := map[string]string{}
	for home, keys := range map[string][]string{
		"at the left margin":             {"polar", "organizations", "database", "schedule", "sync", "history", "http", "heartbeat_url", "log"},
		"under polar":                    {"base_url", "api_version", "requests_per_minute", "timeout", "retry"},
		"under polar.retry":              {"initial_interval", "max_interval", "exponent", "max_elapsed_time", "retry_connection_errors"},
		"under an organization":          {"name", "id", "access_token", "access_token_file", "webhook_secret", "webhook_secret_file", "filter"},
		"under an organization's filter": {"customer_id", "external_customer_id", "meter_id"},
		"under database":                 {"url", "data_dir", "max_connections"},
		"under schedule":                 {"incremental", "full", "timezone", "run_on_start"},
		"under polar or sync":            {"concurrency"},
		"under sync":                     {"max_delete_fraction"},
		"under history":                  {"keep"},
		"under http":                     {"listen", "webhook_listen", "max_lag", "hosts", "token", "token_file"},
		"under http; a database's user and password are part of database.url": {"user", "password", "password_file"},
		"under log": {"level", "format"},
	} {
		for _, key := range keys {
			known[key] = home
		}
	}
	return known
}
