package config

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap/zapcore"
)

// The functions here parse one value and store it. Their errors say what would
// be right and never repeat the text: it may have come from the environment, or
// be a secret under the wrong key.

// duration accepts least and more.
func duration(dst *time.Duration, least time.Duration) func(string) error {
	return func(text string) error {
		d, err := time.ParseDuration(text)
		_, notNumber := strconv.ParseFloat(text, 64)
		switch {
		case err != nil && notNumber == nil:
			return errors.New("want a duration with its unit, such as 30s, 5m or 1h30m")
		case err != nil:
			return errors.New("want a duration such as 500ms, 30s or 1h30m (the longest unit is h: a day is 24h)")
		case d < least && least > 0:
			return errors.New("want a duration above zero, such as 30s")
		case d < least:
			return errors.New("want a duration that is not negative, such as 24h, or 0")
		}
		*dst = d
		return nil
	}
}

// positive is the least duration above zero.
const positive = time.Nanosecond

func integer(dst *int, least, most int) func(string) error {
	return func(text string) error {
		n, err := strconv.Atoi(text)
		if err != nil || n < least || n > most {
			return fmt.Errorf("want a whole number from %d to %d", least, most)
		}
		*dst = n
		return nil
	}
}

func fraction(dst *float64, least, most float64) func(string) error {
	return func(text string) error {
		f, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(f) || f < least || f > most {
			return fmt.Errorf("want a number from %v to %v", least, most)
		}
		*dst = f
		return nil
	}
}

func boolean(dst *bool) func(string) error {
	return func(text string) error {
		switch text {
		case "true", "True", "TRUE":
			*dst = true
		case "false", "False", "FALSE":
			*dst = false
		default:
			return errors.New("want true or false")
		}
		return nil
	}
}

// nonEmpty stores any printable text but "".
func nonEmpty(dst *string) func(string) error {
	return func(text string) error {
		if strings.TrimSpace(text) == "" || strings.ContainsAny(text, "\x00\r\n") {
			return errors.New("want a text of one line, not empty")
		}
		*dst = text
		return nil
	}
}

var versionShape = regexp.MustCompile(`^[0-9]{4}-(0[1-9]|1[0-2])$`)

func apiVersion(dst *string) func(string) error {
	return func(text string) error {
		if !versionShape.MatchString(text) {
			return errors.New("want a version of Polar's API, year and month, such as " + DefaultAPIVersion)
		}
		*dst = text
		return nil
	}
}

func baseURL(dst *string) func(string) error {
	return func(text string) error {
		u, err := url.Parse(text)
		if err != nil || u.Hostname() == "" || u.Opaque != "" || (u.Scheme != "https" && u.Scheme != "http") {
			return fmt.Errorf("want an address such as %s, or %s for the sandbox", ProductionURL, SandboxURL)
		}
		if u.Scheme == "http" && !loopback(u.Hostname()) {
			return errors.New("http:// would send the token in the clear; write https:// (http:// is for loopback alone)")
		}
		if u.User != nil || strings.ContainsAny(text, "?#") {
			return errors.New("want scheme and host alone, without user, query or fragment; the token belongs in access_token")
		}
		trimmed := strings.TrimRight(text, "/")
		if strings.HasSuffix(trimmed, "/v1") {
			return errors.New("leave /v1 out; syncd adds it")
		}
		*dst = trimmed
		return nil
	}
}

// loopback reports whether host can only be this machine.
func loopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

func webURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || (u.Scheme != "https" && u.Scheme != "http") {
		return errors.New(`want an address that begins with https:// or http://, or "" for none`)
	}
	return nil
}

var hostShape = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,252})$`)

// listenAddress stores host:port, or "".
func listenAddress(dst *string, empty string) func(string) error {
	return func(text string) error {
		if text == "" {
			*dst = ""
			return nil
		}
		host, port, err := net.SplitHostPort(text)
		if err == nil {
			_, err = strconv.ParseUint(port, 10, 16)
		}
		if _, notIP := netip.ParseAddr(host); err != nil || (host != "" && notIP != nil && !hostShape.MatchString(host)) {
			return fmt.Errorf(`want host:port such as 127.0.0.1:8080, or "" %s`, empty)
		}
		*dst = text
		return nil
	}
}

var labelShape = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// label stores an organization's name, which is part of a URL and of metrics.
func label(dst *string) func(string) error {
	return func(text string) error {
		if !labelShape.MatchString(text) || text == "." || text == ".." {
			return errors.New("want a label of 1 to 64 letters, digits, '.', '_' and '-', such as acme; it stands in the webhook's address")
		}
		*dst = text
		return nil
	}
}

// parseID accepts the one form that Polar prints.
func parseID(text string) (uuid.UUID, error) {
	id, err := uuid.Parse(text)
	if err != nil || len(text) != 36 || id == uuid.Nil {
		return uuid.Nil, errors.New("want an id as Polar shows it, a UUID such as 1dbfc517-0bbf-4301-9ba8-555ca42b9737")
	}
	return id, nil
}

// databaseURL checks a connection string as pgx reads it. pgx's own error quotes
// the string and masks the password as well as it can; only silence is certain.
func databaseURL(text string) error {
	const form = "such as postgres://user:password@host:5432/database?sslmode=verify-full"
	_, refused := pgxpool.ParseConfig(text)
	if !strings.Contains(text, "://") {
		if refused != nil {
			return errors.New("not a connection string that Postgres clients accept; write one " + form)
		}
		return nil
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Fragment != "" || severalAts(text): // pgx would drop what follows an unescaped #
		return errors.New("not a valid URL; in user and password write @ as %40, : as %3A, / as %2F, # as %23, % as %25, ? as %3F")
	case u.Scheme != "postgres" && u.Scheme != "postgresql":
		return errors.New("not a Postgres address; write one " + form)
	case refused != nil:
		return errors.New("no Postgres client accepts it; check the port, sslmode, the certificate files and the parameters after '?'" + postgresVariables() + "; write one " + form)
	}
	return nil
}

// postgresVariables names the variables of the environment that Postgres clients
// read beside the address, and that may be what is wrong.
func postgresVariables() string {
	var names []string
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "PG") {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return ""
	}
	slices.Sort(names)
	return ", and what these variables of the environment add to it: " + strings.Join(names, ", ")
}

// severalAts reports whether more than one @ stands before the path. Of a
// password with an @ in it pgx takes the end for the host, and would ask the
// name server for it and print it.
func severalAts(text string) bool {
	_, rest, _ := strings.Cut(text, "://")
	authority, _, _ := strings.Cut(rest, "/")
	return strings.Count(authority, "@") > 1
}

// hasPassword reports whether a connection string holds one.
func hasPassword(text string) bool {
	if u, err := url.Parse(text); err == nil && u.User != nil {
		if _, set := u.User.Password(); set {
			return true
		}
	}
	return strings.Contains(text, "password")
}

// keepsNoSecret reports whether a text of the file, where a path belongs, may be
// repeated: it is none of Polar's tokens.
func keepsNoSecret(text string) bool {
	return len(text) <= 200 && !strings.Contains(text, "polar_") && !strings.ContainsAny(text, "\r\n")
}

// ParseLevel parses a value of log.level, for the flag of the same meaning.
func ParseLevel(text string) (zapcore.Level, error) {
	switch text {
	case "debug", "info", "warn", "error":
		return zapcore.ParseLevel(text)
	}
	return 0, errors.New("want debug, info, warn or error")
}

// ParseFormat checks a value of log.format, for the flag of the same meaning.
func ParseFormat(text string) (string, error) {
	if text != FormatJSON && text != FormatConsole {
		return "", errors.New("want json or console")
	}
	return text, nil
}
