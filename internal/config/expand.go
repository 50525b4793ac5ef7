package config

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// reference is one to a variable, by a name that every shell can set, with or
// without a default; a literal ${; or a mistake, of which it matches ${ alone.
var reference = regexp.MustCompile(`\$\$\{|\$\{(?:([A-Za-z_][A-Za-z0-9_]*)(:-([^}]*))?\})?`)

// errReference is the answer to anything behind "${" that is none of the forms
// in the package comment. It repeats nothing of the text, which may be half a
// secret.
var errReference = errors.New("a reference to the environment is written ${NAME} or ${NAME:-default}, and a literal ${ is written $${")

// expand replaces the references in text, in one pass from left to right, and
// returns the names it read. Its errors name variables but show no value.
func expand(text string, lookup func(string) (string, bool)) (expanded string, names []string, err error) {
	expanded = reference.ReplaceAllStringFunc(text, func(match string) string {
		if match == "$${" {
			return "${"
		}
		parts := reference.FindStringSubmatch(match)
		name, hasFallback, fallback := parts[1], parts[2] != "", parts[3]
		if name == "" || strings.Contains(fallback, "${") {
			err = cmp.Or(err, errReference)
			return ""
		}
		names = append(names, name)
		value, set := lookup(name)
		switch {
		case hasFallback && value == "":
			return fallback
		case !set:
			err = cmp.Or(err, fmt.Errorf("environment variable %s is not set; set it, or write ${%s:-default}", name, name))
		}
		return value
	})
	return expanded, names, err
}
