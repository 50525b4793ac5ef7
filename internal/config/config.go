// Package config turns a YAML file and the environment into a [Config].
//
// Its invariant: a Config that [Load] returns can be used as it is. Every value
// is present, parsed and within its range, and the values agree with each
// other. What is wrong is said all at once, one line a problem, with file, line,
// column and the cure; no error ever shows a value that came from the
// environment or that belongs to a secret.
//
// # References to the environment
//
// After parsing, and only in string values, never in keys:
//
//	${NAME}            the variable's value; an unset one is an error
//	${NAME:-default}   the same, but default where the variable is unset or empty
//	$${                a literal ${
//
// Any other $ stands for itself. What comes in is never parsed as YAML and not
// expanded again: one scalar stays one scalar. The text may be anything that the
// key accepts, so requests_per_minute: ${RPM:-300} is a number.
//
// Relative paths are relative to the working directory.
package config

import (
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap/zapcore"

	"polarmirror/internal/secret"
)

// Addresses of Polar's API, and what its sandbox allows.
// Source: servers and rate limits in Polar's API reference.
const (
	ProductionURL = "https://api.polar.sh"
	SandboxURL    = "https://sandbox-api.polar.sh"

	// DefaultAPIVersion is the version of Polar's API that this build is made for.
	DefaultAPIVersion = "2026-10"

	sandboxLimit = 100 // requests a minute to all of a seller's programs together
)

// A Config is everything that syncd can be told. The tag yaml is a field's key; a
// [Credential] has a second one that ends in _file. The other tags say what the
// value must be: from and to are its bounds (a time without them is above zero),
// rule is one of [texts] or [secrets].
type Config struct {
	Source        string         // the file's path, or "environment"; "" for Default
	Polar         Polar          `yaml:"polar"`
	Organizations []Organization `yaml:"organizations"` // at least one, but none in Default
	Database      Database       `yaml:"database"`
	Schedule      Schedule       `yaml:"schedule"`
	Sync          Sync           `yaml:"sync"`
	History       History        `yaml:"history"`
	Privacy       Privacy        `yaml:"privacy"`
	HTTP          HTTP           `yaml:"http"`
	HeartbeatURL  secret.Secret  `yaml:"heartbeat_url" rule:"web_url"` // zero = none; secret, since its path is the key to the watchdog
	Log           Log            `yaml:"log"`
}

// Polar says how to talk to Polar's API.
type Polar struct {
	BaseURL           string        `yaml:"base_url" rule:"base_url"`                  // https (http only on loopback), no slash at the end
	APIVersion        string        `yaml:"api_version" rule:"api_version"`            // for the header Polar-Version
	RequestsPerMinute int           `yaml:"requests_per_minute" from:"0" to:"1000000"` // per token value; 0 = no limit
	Concurrency       int           `yaml:"concurrency" from:"1" to:"1000"`            // requests in flight per organization, at least 1
	Timeout           time.Duration `yaml:"timeout"`
	Retry             Retry         `yaml:"retry"`
}

// Retry says how one request is repeated.
type Retry struct {
	InitialInterval       time.Duration `yaml:"initial_interval"`           // positive
	MaxInterval           time.Duration `yaml:"max_interval"`               // not below InitialInterval
	Exponent              float64       `yaml:"exponent" from:"1" to:"100"` // at least 1
	MaxElapsedTime        time.Duration `yaml:"max_elapsed_time"`           // positive; all attempts of one request together
	RetryConnectionErrors bool          `yaml:"retry_connection_errors"`
}

// An Organization is one seller at Polar.
type Organization struct {
	Name          string     `yaml:"name" rule:"label"` // unique label of letters, digits, ".", "_" and "-"
	ID            uuid.UUID  `yaml:"id"`                // unique; zero only without a file: to be discovered
	AccessToken   Credential `yaml:"access_token" rule:"access_token"`
	WebhookSecret Credential `yaml:"webhook_secret" rule:"webhook_secret"` // zero = no webhooks for this organization
	Filter        Filter     `yaml:"filter"`
}

// A Filter restricts the mirror to customer meters that match one value of every
// non-empty list. Its zero value restricts nothing.
type Filter struct {
	CustomerIDs         []uuid.UUID `yaml:"customer_id"`
	ExternalCustomerIDs []string    `yaml:"external_customer_id" rule:"external_id"`
	MeterIDs            []uuid.UUID `yaml:"meter_id"`
}

// Database says where the mirror lives.
type Database struct {
	URL            secret.Secret `yaml:"url" rule:"database_url"` // zero = the embedded database in DataDir
	DataDir        string        `yaml:"data_dir" rule:"line"`
	MaxConnections int           `yaml:"max_connections" from:"1" to:"32767"` // at least Sync.Concurrency + SpareConnections
}

// SpareConnections is how many connections the pool needs beyond one for each
// organization being worked: one for webhooks, one for maintenance and notices, one
// for the status page, metrics and probes.
const SpareConnections = 3

// Embedded reports whether syncd runs the database itself.
func (d Database) Embedded() bool { return d.URL.IsZero() }

// Schedule says when runs begin.
type Schedule struct {
	Incremental Cron           `yaml:"incremental"`
	Full        Cron           `yaml:"full"`
	Location    *time.Location `yaml:"timezone"` // key: timezone
	RunOnStart  bool           `yaml:"run_on_start"`
}

// Sync bounds the work done side by side, and the damage of a wrong answer.
type Sync struct {
	Concurrency       int     `yaml:"concurrency" from:"1" to:"1000"`      // organizations at a time, at least 1
	MaxDeleteFraction float64 `yaml:"max_delete_fraction" from:"0" to:"1"` // 0 to 1
}

// History says how long changes are kept.
type History struct {
	Keep time.Duration `yaml:"keep" from:"0"` // 0 = for ever
}

// Privacy says what of customers is never kept.
type Privacy struct {
	Exclude []string `yaml:"exclude" rule:"customer_field"` // members of Polar's customers
}

// HTTP says where syncd listens, as host:port, and who may read what it shows.
type HTTP struct {
	Listen        string        `yaml:"listen" rule:"listen"`         // "" = off
	WebhookListen string        `yaml:"webhook_listen" rule:"listen"` // "" = webhooks on Listen
	MaxLag        time.Duration `yaml:"max_lag"`                      // positive
	Hosts         []string      `yaml:"hosts" rule:"host"`            // names, lower case, that clients may call Listen by, besides loopback's own

	// Who reads the page or the metrics must show the token, or user and
	// password. Without either anyone may, which Load allows on loopback alone.
	Token    Credential `yaml:"token" rule:"http_token"`
	User     string     `yaml:"user" rule:"user"` // "" = no password
	Password Credential `yaml:"password" rule:"http_password"`
}

// Protected reports whether reading the page and the metrics takes a credential.
func (h HTTP) Protected() bool { return !h.Token.IsZero() || h.User != "" }

// Log says what is logged, and how.
type Log struct {
	Level  zapcore.Level `yaml:"level"`                    // debug, info, warn or error
	Format string        `yaml:"format" rule:"log_format"` // FormatJSON or FormatConsole
}

// The two values of Log.Format.
const (
	FormatJSON    = "json"
	FormatConsole = "console"
)

// Default returns the configuration in which every key has its default: no
// organization yet, the embedded database. It is the caller's to fill.
func Default() *Config {
	return &Config{
		Polar: Polar{
			BaseURL:           ProductionURL,
			APIVersion:        DefaultAPIVersion,
			RequestsPerMinute: 300,
			Concurrency:       8,
			Timeout:           30 * time.Second,
			Retry: Retry{
				InitialInterval:       500 * time.Millisecond,
				MaxInterval:           60 * time.Second,
				Exponent:              1.5,
				MaxElapsedTime:        time.Hour,
				RetryConnectionErrors: true,
			},
		},
		Database: Database{DataDir: ".syncd", MaxConnections: 8},
		Schedule: Schedule{
			Incremental: "* * * * *",
			Full:        "17 * * * *",
			Location:    time.UTC,
			RunOnStart:  true,
		},
		Sync:    Sync{Concurrency: 4, MaxDeleteFraction: 0.2},
		History: History{Keep: 8760 * time.Hour},
		HTTP:    HTTP{Listen: "127.0.0.1:8080", MaxLag: time.Hour},
		Log:     Log{Level: zapcore.InfoLevel, Format: FormatJSON},
	}
}
