package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"slices"
	"strings"

	"polarmirror/internal/secret"
)

// DefaultPath is the file that is read if it is there and no other was asked for.
const DefaultPath = "config.yaml"

// environment stands as File in a problem that is about a variable.
const environment = "environment"

// A source is where a configuration comes from.
type source struct {
	path      string
	lookupEnv func(string) (string, bool)
	readFile  func(string) ([]byte, error)
}

// Load reads the configuration: the file at path, or, where none was asked for and
// none is at [DefaultPath], the environment alone. Its errors are of type [*Error].
//
// A file that does not name database.url takes it from DATABASE_URL. Without a
// file, POLAR_ACCESS_TOKEN is the one organization, "default", with the id from
// POLAR_ORGANIZATION_ID or none; POLAR_SERVER is production or sandbox.
func Load(path string, lookupEnv func(string) (string, bool)) (*Config, error) {
	return source{path, lookupEnv, readFile}.load()
}

func (s source) load() (*Config, error) {
	asked := s.path != ""
	s.path = cmp.Or(s.path, DefaultPath)
	text, err := s.readFile(s.path)
	switch {
	case err == nil:
		return s.fromFile(text)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, problemOf(s.path, "read the configuration: %v; use --config to name a file that syncd can read", fileReason(err))
	case asked:
		return nil, problemOf(s.path, "there is no such file; copy config.example.yaml there, or leave --config out")
	}
	return s.fromEnvironment()
}

func (s source) fromFile(text []byte) (*Config, error) {
	// Editors of some systems begin a file with this mark; in YAML it is nothing.
	body, problem := parse(bytes.TrimPrefix(text, []byte("\ufeff")))
	if problem != nil {
		problem.File = s.path
		return nil, &Error{Problems: []Problem{*problem}}
	}
	c := Default()
	c.Source = s.path
	d := &decoder{source: s, at: map[string]position{}}
	d.decode(value{node: body}, position{1, 1}, reflect.ValueOf(c).Elem())
	d.validate(c)
	if !d.given("database.url") {
		d.problems = append(d.problems, s.databaseFromEnvironment(c)...)
	}
	if err := errorOf(d.problems); err != nil {
		return nil, err
	}
	return c, nil
}

// fromEnvironment makes the configuration of a user who has a token and no file.
func (s source) fromEnvironment() (*Config, error) {
	get := func(name string) string {
		text, _ := s.lookupEnv(name)
		return text
	}
	token := get("POLAR_ACCESS_TOKEN")
	if token == "" {
		return nil, problemOf("", "there is nothing to mirror yet: set POLAR_ACCESS_TOKEN, or write a %s (see config.example.yaml), or try syncd --demo, which needs neither", s.path)
	}
	c := Default()
	c.Source = environment
	problems := s.databaseFromEnvironment(c)
	check := func(name string, err error) {
		if err != nil {
			problems = append(problems, Problem{File: environment, Message: fmt.Sprintf("%s: %v", name, err)})
		}
	}
	org := Organization{Name: "default", AccessToken: Credential{Value: secret.New(token)}}
	check("POLAR_ACCESS_TOKEN", checkToken(token))
	if id := get("POLAR_ORGANIZATION_ID"); id != "" {
		parsed, err := parseID(id)
		check("POLAR_ORGANIZATION_ID", err)
		org.ID = parsed
	}
	switch get("POLAR_SERVER") {
	case "", "production":
	case "sandbox": // allows a fifth of what production does, so the mirror's share shrinks with it
		c.Polar.BaseURL, c.Polar.RequestsPerMinute = SandboxURL, 60
	default:
		check("POLAR_SERVER", errors.New("want production or sandbox"))
	}
	c.Organizations = []Organization{org}
	if err := errorOf(problems); err != nil {
		return nil, err
	}
	return c, nil
}

func (s source) databaseFromEnvironment(c *Config) []Problem {
	text, _ := s.lookupEnv("DATABASE_URL")
	if text == "" {
		return nil
	}
	if err := databaseURL(text); err != nil {
		return []Problem{{File: environment, Message: fmt.Sprintf("DATABASE_URL: %v", err)}}
	}
	c.Database.URL = secret.New(text)
	return nil
}

// Only returns the configuration with just the named organizations, in the
// order of the file; without names, all of them.
func (c *Config) Only(names ...string) (*Config, error) {
	if len(names) == 0 {
		return c, nil
	}
	known := c.Names()
	for _, name := range names {
		if !slices.Contains(known, name) {
			return nil, problemOf(c.Source, "there is no organization %.64q; configured: %s", name, strings.Join(known, ", "))
		}
	}
	only := *c
	only.Organizations = slices.DeleteFunc(slices.Clone(c.Organizations), func(o Organization) bool { return !slices.Contains(names, o.Name) })
	return &only, nil
}

// Names are the labels of the organizations.
func (c *Config) Names() (names []string) {
	for _, o := range c.Organizations {
		names = append(names, o.Name)
	}
	return names
}
