package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"reflect"
	"strings"

	"polarmirror/internal/secret"
)

// DefaultPath is the file that is read if it is there and no other was asked for.
const DefaultPath = "config.yaml"

// environment stands as File in a problem that is about a variable.
const environment = "environment"

// LoadOptions says where a configuration comes from. Nil functions are those of
// the operating system.
type LoadOptions struct {
	Path      string // "" = DefaultPath
	PathGiven bool   // the user asked for Path: it must exist

	LookupEnv func(string) (string, bool)
	ReadFile  func(string) ([]byte, error)
	Stat      func(string) (fs.FileInfo, error)
}

// Load reads the configuration: the file, or, where none is there, the
// environment alone. Its errors are of type [*Error].
//
// A file that does not name database.url takes it from DATABASE_URL. Without a
// file, POLAR_ACCESS_TOKEN is the one organization, "default", with the id from
// POLAR_ORGANIZATION_ID or none; POLAR_SERVER is production or sandbox.
func Load(opts LoadOptions) (*Config, error) {
	opts = opts.withDefaults()
	source, err := opts.ReadFile(opts.Path)
	switch {
	case err == nil && len(source) > maxFile:
		return nil, complain(opts.Path, "%v", errTooLong)
	case err == nil:
		return fromFile(opts, source)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, complain(opts.Path, "read the configuration: %v", fileReason(err))
	case opts.PathGiven:
		return nil, complain(opts.Path, "there is no such file; copy config.example.yaml there, or leave --config out")
	}
	return fromEnvironment(opts)
}

func (o LoadOptions) withDefaults() LoadOptions {
	if o.Path == "" {
		o.Path = DefaultPath
	}
	if o.LookupEnv == nil {
		o.LookupEnv = os.LookupEnv
	}
	if o.ReadFile == nil {
		o.ReadFile = readFile
	}
	if o.Stat == nil {
		o.Stat = os.Stat
	}
	return o
}

// readable reports whether everyone on the machine can read a file.
func (o LoadOptions) readable(name string) bool {
	info, err := o.Stat(name)
	return err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o004 != 0
}

func fromFile(opts LoadOptions, source []byte) (*Config, error) {
	// Editors of some systems begin a file with this mark; in YAML it is nothing.
	body, problem := parse([]byte(strings.TrimPrefix(string(source), "\ufeff")))
	if problem != nil {
		problem.File = opts.Path
		return nil, &Error{Problems: []Problem{*problem}}
	}
	c := Default()
	c.Source = opts.Path
	d := &decoder{LoadOptions: opts, at: map[string]position{}}
	d.decode(value{node: body}, position{1, 1}, reflect.ValueOf(c).Elem())
	d.validate(c)
	if !d.given("database.url") {
		d.problems = append(d.problems, databaseFromEnvironment(c, opts.LookupEnv)...)
	}
	if err := errorOf(d.problems); err != nil {
		return nil, err
	}
	c.exposed = d.exposed
	if d.literal && opts.readable(opts.Path) {
		c.exposed = append(c.exposed, opts.Path+" holds secrets and everyone on this machine can read it; run chmod o-r on it, or keep them in the environment")
	}
	return c, nil
}

// fromEnvironment makes the configuration of a user who has a token and no file.
func fromEnvironment(opts LoadOptions) (*Config, error) {
	get := func(name string) string {
		text, _ := opts.LookupEnv(name)
		return text
	}
	token := get("POLAR_ACCESS_TOKEN")
	if token == "" {
		return nil, complain("", "there is nothing to mirror yet: set POLAR_ACCESS_TOKEN, or write a %s (see config.example.yaml), or try syncd --demo, which needs neither", opts.Path)
	}
	c := Default()
	c.Source = environment
	problems := databaseFromEnvironment(c, opts.LookupEnv)
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
	check("POLAR_SERVER", c.Polar.choose(get("POLAR_SERVER")))
	c.Organizations = []Organization{org}
	if err := errorOf(problems); err != nil {
		return nil, err
	}
	return c, nil
}

// choose sets the server by its name. The sandbox allows a fifth of what
// production does, so the mirror's share shrinks with it.
func (p *Polar) choose(server string) error {
	switch server {
	case "", "production":
		p.BaseURL = ProductionURL
	case "sandbox":
		p.BaseURL = SandboxURL
		p.RequestsPerMinute = 60
	default:
		return errors.New("want production or sandbox")
	}
	return nil
}

func databaseFromEnvironment(c *Config, lookup func(string) (string, bool)) []Problem {
	text, _ := lookup("DATABASE_URL")
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
	wanted := make(map[string]bool, len(names))
	for _, name := range names {
		wanted[name] = true
	}
	only := *c
	only.Organizations = nil
	var known []string
	for _, o := range c.Organizations {
		known = append(known, o.Name)
		if wanted[o.Name] {
			only.Organizations = append(only.Organizations, o)
			delete(wanted, o.Name)
		}
	}
	for _, name := range names {
		if wanted[name] {
			return nil, complain(c.Source, "there is no organization %.64q; configured: %s", name, strings.Join(known, ", "))
		}
	}
	return &only, nil
}
