package config

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"net/url"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap/zapcore"

	"polarmirror/internal/secret"
)

// The functions here parse one value. Their errors say what would be right and
// never repeat the text: it may have come from the environment, or be a secret
// under the wrong key.

// set stores the value that text stands for; fromEnv says that some of it came
// from the environment.
func (d *decoder) set(field any, v value, text string, fromEnv bool) (err error) {
	rule := v.tag.Get("rule")
	switch p := field.(type) {
	case *string:
		err = parsed(p, text, texts[rule])
	case *bool:
		err = parsed(p, text, parseBool)
	case *int:
		err = parsed(p, text, func(text string) (int, error) { return bounded(text, v.tag, "a whole number", strconv.Atoi) })
	case *float64:
		err = parsed(p, text, func(text string) (float64, error) { return bounded(text, v.tag, "a number", parseFloat) })
	case *time.Duration:
		err = parsed(p, text, func(text string) (time.Duration, error) { return parseDuration(text, v.tag) })
	case **time.Location:
		err = parsed(p, text, parseLocation)
	case *uuid.UUID:
		err = parsed(p, text, parseID)
	case *zapcore.Level:
		err = parsed(p, text, ParseLevel)
	case *Cron:
		err = parsed(p, text, func(text string) (Cron, error) {
			_, err := Cron(text).In(time.UTC)
			return Cron(text), err
		})
	case *secret.Secret:
		*p = secret.New(text)
		if text != "" {
			err = secrets[rule](text)
		}
	case *Credential:
		err = d.setCredential(p, v, text, fromEnv)
	default:
		panic(fmt.Sprintf("config: no way to read a %T", field))
	}
	return err
}

// parsed stores what parse returns, unless that is an error.
func parsed[T any](field *T, text string, parse func(string) (T, error)) error {
	value, err := parse(text)
	if err == nil {
		*field = value
	}
	return err
}

// setCredential stores a credential or the path of its file. The file is read
// now, to say now that it can't be used, and again by [Credential.Read].
func (d *decoder) setCredential(c *Credential, v value, text string, fromEnv bool) error {
	rule := v.tag.Get("rule")
	switch {
	case text == "" && rule == "access_token":
		return errors.New("is empty")
	case text == "":
		return nil
	case !v.file:
		c.Value = secret.New(text)
		return secrets[rule](text)
	}
	c.File = text
	// A path from the environment may be a token under the wrong key.
	name := "the file"
	if !fromEnv && keepsNoSecret(text) {
		name = text
	}
	_, err := readSecret(d.readFile, text, name, secrets[rule])
	return err
}

// texts are the rules of texts. They return the text as it is stored.
var texts = map[string]func(string) (string, error){
	"api_version":    shape(`^\d{4}-(0[1-9]|1[0-2])$`, "want a version of Polar's API, year and month, such as "+DefaultAPIVersion),
	"base_url":       parseBaseURL,
	"customer_field": shape(`^(email|name|billing_name|billing_address|tax_id|avatar_url|metadata)$`, "want one of email, name, billing_name, billing_address, tax_id, avatar_url, metadata"),
	"external_id":    shape(`.`, "want a customer's id in your own system, not an empty text"),
	"host":           parseHost,
	"label":          shape(`^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$`, "want a label of 1 to 64 letters, digits, '.', '_' and '-' that does not begin with '.', such as acme; it stands in the webhook's address"),
	"line":           shape(`^[^\x00\r\n]*[^\x00\s][^\x00\r\n]*$`, "want a text of one line, not empty"),
	"listen":         parseListen,
	"log_format":     shape(`^(json|console)$`, "want json or console"),
	"user":           shape(`^[^:\x00\r\n]{0,255}$`, `want a user's name without ":", or "" for none`), // what basic authentication can carry
}

// shape is the rule that a text matches a pattern, which want says in words.
func shape(pattern, want string) func(string) (string, error) {
	compiled := regexp.MustCompile(pattern)
	return func(text string) (string, error) {
		if !compiled.MatchString(text) {
			return "", errors.New(want)
		}
		return text, nil
	}
}

// secrets are the rules of secrets and credentials, which are stored as they are.
var secrets = map[string]func(string) error{
	"access_token":  checkToken,
	"database_url":  databaseURL,
	"http_password": func(text string) error { return longEnough(text, 8, "", checkSecret) },
	"http_token": func(text string) error {
		return longEnough(text, 16, ", such as openssl rand -hex 32 prints", checkToken)
	},
	"web_url":        webURL,
	"webhook_secret": checkSecret,
}

// longEnough refuses credentials that are ours to judge, unlike Polar's own.
func longEnough(text string, least int, example string, check func(string) error) error {
	if len(text) < least {
		return fmt.Errorf("is too short to keep anyone out; want %d characters or more%s", least, example)
	}
	return check(text)
}

// bounded parses a number that lies within the tags from and to.
func bounded[N int | float64](text string, tag reflect.StructTag, kind string, parse func(string) (N, error)) (N, error) {
	from, _ := parseFloat(tag.Get("from"))
	to, _ := parseFloat(tag.Get("to"))
	n, err := parse(text)
	if x := float64(n); err != nil || math.IsNaN(x) || x < from || x > to {
		return 0, fmt.Errorf("want %s from %s to %s", kind, tag.Get("from"), tag.Get("to"))
	}
	return n, nil
}

func parseFloat(text string) (float64, error) { return strconv.ParseFloat(text, 64) }

func parseDuration(text string, tag reflect.StructTag) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	_, zero := tag.Lookup("from")
	switch {
	case err != nil:
		return 0, errors.New("want a duration with its unit, such as 500ms, 30s or 1h30m (the longest unit is h: a day is 24h)")
	case d <= 0 && !zero:
		return 0, errors.New("want a duration above zero, such as 30s")
	case d < 0:
		return 0, errors.New("want a duration that is not negative, such as 24h, or 0")
	}
	return d, nil
}

func parseBool(text string) (bool, error) {
	b, err := strconv.ParseBool(text)
	if err != nil {
		return false, errors.New("want true or false")
	}
	return b, nil
}

func parseLocation(text string) (*time.Location, error) {
	location, err := time.LoadLocation(text)
	if err != nil || text == "" || text == "Local" { // those are none that every replica has alike
		return nil, errors.New("no such time zone; want a name of the IANA database, such as UTC or Europe/Berlin")
	}
	return location, nil
}

func parseBaseURL(text string) (string, error) {
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || u.Opaque != "" || (u.Scheme != "https" && u.Scheme != "http") {
		return "", fmt.Errorf("want an address such as %s, or %s for the sandbox", ProductionURL, SandboxURL)
	}
	if u.Scheme == "http" && !loopback(u.Hostname()) {
		return "", errors.New("http:// would send the token in the clear; write https:// (http:// is for loopback alone)")
	}
	if u.User != nil || strings.ContainsAny(text, "?#") {
		return "", errors.New("want scheme and host alone, without user, query or fragment; the token belongs in access_token")
	}
	trimmed := strings.TrimRight(text, "/")
	if strings.HasSuffix(trimmed, "/v1") {
		return "", errors.New("leave /v1 out; syncd adds it")
	}
	return trimmed, nil
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

// parseHost accepts a name or an address without a port.
func parseHost(text string) (string, error) {
	host := strings.ToLower(strings.Trim(text, "[]"))
	if _, err := netip.ParseAddr(host); err != nil && !hostShape.MatchString(host) {
		return "", errors.New("want a host's name without scheme and port, such as syncd.example.com")
	}
	return host, nil
}

// parseListen accepts host:port, or "".
func parseListen(text string) (string, error) {
	if text == "" {
		return "", nil
	}
	host, port, err := net.SplitHostPort(text)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if _, notIP := netip.ParseAddr(host); err != nil || (host != "" && notIP != nil && !hostShape.MatchString(host)) {
		return "", errors.New(`want host:port such as 127.0.0.1:8080, or "" for none`)
	}
	return text, nil
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
	case err != nil || u.Fragment != "" || severalAts.MatchString(text): // pgx would drop what follows an unescaped #
		return errors.New("not a valid URL; in user and password write @ as %40, : as %3A, / as %2F, # as %23, % as %25, ? as %3F")
	case u.Scheme != "postgres" && u.Scheme != "postgresql":
		return errors.New("not a Postgres address; write one " + form)
	case refused != nil:
		return errors.New("no Postgres client accepts it; check the port, sslmode, the certificate files, the parameters after '?' and the variables PG... of the environment; write one " + form)
	}
	return nil
}

// severalAts is more than one @ before the path. Of a password with an @ in it pgx
// takes the end for the host, and would ask the name server for it and print it.
var severalAts = regexp.MustCompile(`://[^/]*@[^/]*@`)

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
func ParseFormat(text string) (string, error) { return texts["log_format"](text) }
