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

// A Config is everything that syncd can be told. Where a field's doc says
// nothing else, it has the key of the same name.
type Config struct {
	Source        string // the file's path, or "environment"; "" for Default
	Polar         Polar
	Organizations []Organization // at least one, but none in Default
	Database      Database
	Schedule      Schedule
	Sync          Sync
	History       History
	HTTP          HTTP
	HeartbeatURL  secret.Secret // zero = none; secret, since its path is the key to the watchdog
	Log           Log

	exposed []string // what Load found readable by everyone, as warnings
}

// Polar says how to talk to Polar's API.
type Polar struct {
	BaseURL           string // https (http only on loopback), no slash at the end
	APIVersion        string // for the header Polar-Version
	RequestsPerMinute int    // per token value; 0 = no limit
	Concurrency       int    // requests in flight per organization, at least 1
	Timeout           time.Duration
	Retry             Retry
}

// Retry says how one request is repeated.
type Retry struct {
	InitialInterval       time.Duration // positive
	MaxInterval           time.Duration // not below InitialInterval
	Exponent              float64       // at least 1
	MaxElapsedTime        time.Duration // positive; all attempts of one request together
	RetryConnectionErrors bool
}

// An Organization is one seller at Polar.
type Organization struct {
	Name          string    // unique label of letters, digits, ".", "_" and "-"
	ID            uuid.UUID // unique; zero only without a file: to be discovered
	AccessToken   Credential
	WebhookSecret Credential // zero = no webhooks for this organization
	Filter        Filter
}

// A Filter restricts the mirror to customer meters that match one value of every
// non-empty list. Its zero value restricts nothing.
type Filter struct {
	CustomerID         []uuid.UUID
	ExternalCustomerID []string
	MeterID            []uuid.UUID
}

// Database says where the mirror lives.
type Database struct {
	URL            secret.Secret // zero = the embedded database in DataDir
	DataDir        string
	MaxConnections int // at least Sync.Concurrency + SpareConnections
}

// SpareConnections is how many connections the pool needs beyond one for each
// organization being worked: one for webhooks, one for maintenance and notices, one
// for the status page, metrics and probes.
const SpareConnections = 3

// Embedded reports whether syncd runs the database itself.
func (d Database) Embedded() bool { return d.URL.IsZero() }

// Schedule says when runs begin.
type Schedule struct {
	Incremental Cron
	Full        Cron
	Location    *time.Location // key: timezone
	RunOnStart  bool
}

// Sync bounds the work done side by side, and the damage of a wrong answer.
type Sync struct {
	Concurrency       int     // organizations at a time, at least 1
	MaxDeleteFraction float64 // 0 to 1
}

// History says how long changes are kept.
type History struct {
	Keep time.Duration // 0 = for ever
}

// Log says what is logged, and how.
type Log struct {
	Level  zapcore.Level // debug, info, warn or error
	Format string        // FormatJSON or FormatConsole
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
