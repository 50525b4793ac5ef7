package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// A decoder walks a YAML tree beside the fields that it may hold, and collects
// what is wrong instead of stopping at it.
type decoder struct {
	file     string
	lookup   func(string) (string, bool)
	readFile func(string) ([]byte, error)
	open     func(string) bool // whether everyone on the machine can read this file

	anchors  map[string]ast.Node
	at       map[string]position // where each path was given
	literal  bool                // a secret stands in the file itself
	exposed  []string
	problems []Problem
}

// A value is a node at its path, such as "polar.retry.exponent".
type value struct {
	path string
	node ast.Node // nil for a missing one; an anchor or alias is resolved
	at   position
}

// A setter stores a value, or reports why not.
type setter func(d *decoder, v value)

// fields are the keys that a mapping may have.
type fields map[string]setter

// maxProblems bounds what is reported: whoever gives a file of another kind
// needs no line for each of its lines.
const maxProblems = 100

// full reports whether reading on would find nothing that is still reported.
func (d *decoder) full() bool { return len(d.problems) >= maxProblems }

// report adds a problem about the value at path.
func (d *decoder) report(at position, path, format string, args ...any) {
	if d.full() {
		return
	}
	message := fmt.Sprintf(format, args...)
	if path != "" {
		message = path + ": " + message
	}
	d.problems = append(d.problems, Problem{File: d.file, Line: at.line, Column: at.column, Message: message})
}

// given reports whether the file has path, even if with a wrong value.
func (d *decoder) given(path string) bool {
	_, ok := d.at[path]
	return ok
}

// place returns where path was given, or where the nearest section around it
// begins.
func (d *decoder) place(path string) position {
	for {
		if at, ok := d.at[path]; ok {
			return at
		}
		cut := strings.LastIndexAny(path, ".[")
		if cut < 0 {
			return position{1, 1}
		}
		path = path[:cut]
	}
}

// value makes a value of node, reporting an alias that leads nowhere. A value
// that is not there is looked for at before, its key or dash.
func (d *decoder) value(path string, node ast.Node, before position) (value, bool) {
	at := where(node)
	switch node.(type) {
	case *ast.NullNode, nil:
		at = before
	}
	resolved, err := d.resolveNode(node)
	if err != nil {
		d.report(at, path, "%v", err)
		return value{}, false
	}
	d.at[path] = at
	return value{path: path, node: resolved, at: at}, true
}

// section is the setter of a mapping with these fields. A section without
// content, its lines commented out perhaps, leaves every default as it is.
func section(known fields) setter {
	return func(d *decoder, v value) {
		var pairs []*ast.MappingValueNode
		switch n := v.node.(type) {
		case nil, *ast.NullNode:
			return
		case *ast.MappingNode:
			pairs = n.Values
		case *ast.MappingValueNode:
			pairs = []*ast.MappingValueNode{n}
		default:
			d.report(v.at, v.path, "want keys and values, found %s", kindOf(v.node))
			return
		}
		seen := make(map[string]position, len(pairs))
		for _, pair := range pairs {
			if d.full() {
				return
			}
			d.pair(v, pair, known, seen)
		}
	}
}

// pair decodes one key and its value.
func (d *decoder) pair(parent value, pair *ast.MappingValueNode, known fields, seen map[string]position) {
	at := where(pair)
	switch pair.Key.(type) {
	case *ast.MergeKeyNode:
		d.report(at, parent.path, "merge keys (<<) are not supported; write the keys out")
		return
	case *ast.MappingKeyNode:
		d.report(at, parent.path, "keys behind a question mark are not supported; write key: value")
		return
	}
	key := pair.Key.GetToken().Value
	set, ok := known[key]
	if !ok {
		d.report(at, parent.path, "%s", unknown(key, known))
		return
	}
	if first, again := seen[key]; again {
		d.report(at, parent.path, "key %s is given twice, first in line %d; keep one", key, first.line)
		return
	}
	seen[key] = at
	path := key
	if parent.path != "" {
		path = parent.path + "." + key
	}
	if v, ok := d.value(path, pair.Value, at); ok {
		set(d, v)
	}
}

// unknown words the complaint about a key, with the likeliest cure.
func unknown(key string, known fields) string {
	if !keyShape.MatchString(key) {
		return `this is not a known key; is the space behind a ":" missing?`
	}
	names := slices.Sorted(maps.Keys(known))
	if near := nearest(key, names); near != "" {
		return fmt.Sprintf("unknown key %s; did you mean %s?", key, near)
	}
	if home, ok := homes()[key]; ok {
		return fmt.Sprintf("unknown key %s; it belongs %s", key, home)
	}
	return fmt.Sprintf("unknown key %s; known here: %s", key, strings.Join(names, ", "))
}

// list is the setter of a sequence whose elements each handles in turn.
func list(each func(d *decoder, v value)) setter {
	return func(d *decoder, v value) {
		switch n := v.node.(type) {
		case nil, *ast.NullNode:
		case *ast.SequenceNode:
			for i, node := range n.Values {
				if d.full() {
					return
				}
				dash := where(node)
				if !n.IsFlowStyle && i < len(n.Entries) {
					dash = positionOf(n.Entries[i].Start)
				}
				if element, ok := d.value(fmt.Sprintf("%s[%d]", v.path, i), node, dash); ok {
					each(d, element)
				}
			}
		default:
			d.report(v.at, v.path, "want a list, found %s; write each element in a line of its own behind \"- \", or all as [a, b]", kindOf(v.node))
		}
	}
}

// A scalar is a single value's text after expansion.
type scalar struct {
	text string
	vars []string // the environment variables in it
}

// scalar returns the text of v. YAML's own types don't matter: the key decides
// whether 300 or yes is a number, a text or a mistake.
func (d *decoder) scalar(v value) (scalar, bool) {
	switch n := v.node.(type) {
	case *ast.StringNode:
		return d.expand(v, n.Value)
	case *ast.LiteralNode:
		return d.expand(v, n.Value.Value)
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return scalar{text: n.GetToken().Value}, true
	case *ast.NullNode, nil:
		d.report(v.at, v.path, `has no value; give it one, write "" for an empty one, or leave the line out`)
	default:
		d.report(v.at, v.path, "want a single value, found %s", kindOf(v.node))
	}
	return scalar{}, false
}

func (d *decoder) expand(v value, text string) (scalar, bool) {
	expanded, vars, err := expand(text, d.lookup)
	if err != nil {
		d.report(v.at, v.path, "%v", err)
		return scalar{}, false
	}
	return scalar{text: expanded, vars: vars}, true
}

// origin says where the text came from, if not from the file: the place to mend
// is then elsewhere.
func (s scalar) origin() string {
	if len(s.vars) == 0 {
		return ""
	}
	return " (the value comes from the environment variable " + strings.Join(s.vars, " and ") + ")"
}

// fromScalar is the setter of a single value that store takes. The errors of
// store must not repeat the text.
func fromScalar(store func(d *decoder, s scalar) error) setter {
	return func(d *decoder, v value) {
		s, ok := d.scalar(v)
		if !ok {
			return
		}
		if err := store(d, s); err != nil {
			d.report(v.at, v.path, "%v%s", err, s.origin())
		}
	}
}

// scalarInto is fromScalar for what needs the text alone.
func scalarInto(store func(text string) error) setter {
	return fromScalar(func(_ *decoder, s scalar) error { return store(s.text) })
}

// parsedInto is the setter of a single value that parse returns.
func parsedInto[T any](dst *T, parse func(string) (T, error)) setter {
	return scalarInto(func(text string) error {
		parsed, err := parse(text)
		if err == nil {
			*dst = parsed
		}
		return err
	})
}
