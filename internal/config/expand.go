package config

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// variableName is a name that every shell can set.
var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// errReference is the answer to anything behind "${" that is none of the forms
// in the package comment. It repeats nothing of the text, which may be half a
// secret.
var errReference = errors.New("a reference to the environment is written ${NAME} or ${NAME:-default}, and a literal ${ is written $${")

// expand replaces the references in text, in one pass from left to right, and
// returns the names it read. Its errors name variables but show no value.
func expand(text string, lookup func(string) (string, bool)) (string, []string, error) {
	var out strings.Builder
	var names []string
	for {
		before, after, found := strings.Cut(text, "${")
		if !found {
			out.WriteString(text)
			return out.String(), names, nil
		}
		if strings.HasSuffix(before, "$") {
			out.WriteString(before[:len(before)-1] + "${")
			text = after
			continue
		}
		out.WriteString(before)
		reference, rest, closed := strings.Cut(after, "}")
		if !closed {
			return "", nil, errReference
		}
		value, name, err := resolve(reference, lookup)
		if err != nil {
			return "", nil, err
		}
		out.WriteString(value)
		names = append(names, name)
		text = rest
	}
}

// resolve reads one reference, what stands between "${" and "}".
func resolve(reference string, lookup func(string) (string, bool)) (value, name string, err error) {
	name, fallback, hasFallback := strings.Cut(reference, ":-")
	if !variableName.MatchString(name) || strings.Contains(fallback, "${") {
		return "", "", errReference
	}
	value, set := lookup(name)
	switch {
	case hasFallback && value == "":
		return fallback, name, nil
	case !set:
		return "", "", fmt.Errorf("environment variable %s is not set; set it, or write ${%s:-default}", name, name)
	}
	return value, name, nil
}
