package config

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// A decoder walks a YAML tree beside the structs that it fills by their tags, and
// collects what is wrong. goccy's own decoder reports one mistake and quotes the
// lines around it, secrets included.
type decoder struct {
	source
	at       map[string]position // where each path was given
	problems []Problem
}

// A value is a node at its path, such as "polar.retry.exponent".
type value struct {
	path string
	node ast.Node // nil for a missing one
	at   position
	tag  reflect.StructTag // of the field
	file bool              // the key of a credential that ends in _file
}

// maxProblems bounds what is reported: whoever gives a file of another kind
// needs no line for each of its lines.
const maxProblems = 100

// report adds a problem about the value at path.
func (d *decoder) report(at position, path, format string, args ...any) {
	if len(d.problems) >= maxProblems {
		return
	}
	message := fmt.Sprintf(format, args...)
	if path != "" {
		message = path + ": " + message
	}
	d.problems = append(d.problems, Problem{File: d.path, Line: at.line, Column: at.column, Message: message})
}

// given reports whether the file has path, even if with a wrong value.
func (d *decoder) given(path string) bool {
	_, ok := d.at[path]
	return ok
}

// faulty reports whether there is a problem about path, or below it.
func (d *decoder) faulty(path string) bool {
	return slices.ContainsFunc(d.problems, func(p Problem) bool { return strings.HasPrefix(p.Message, path) })
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

// decode sets into from a node. A value that is not there is looked for at
// before, its key or dash.
func (d *decoder) decode(v value, before position, into reflect.Value) {
	v.at = where(v.node)
	if missing(v.node) {
		v.at = before
	}
	d.at[v.path] = v.at
	switch v.node.(type) {
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode:
		d.report(v.at, v.path, "YAML's anchors (&), aliases (*) and tags (!) are not supported; write the value out, or put it in quotes")
		return
	}
	switch {
	case isSection(into.Type()):
		d.section(v, into)
	case into.Kind() == reflect.Slice:
		d.list(v, into)
	default:
		d.scalar(v, into)
	}
}

// isSection reports whether a type has keys of its own.
func isSection(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && len(keysOf(t)) > 0
}

// missing reports whether nothing stands where a value belongs.
func missing(node ast.Node) bool {
	_, null := node.(*ast.NullNode)
	return null || node == nil
}

// section decodes keys and values. A section without content, its lines
// commented out perhaps, leaves every default as it is.
func (d *decoder) section(v value, into reflect.Value) {
	mapping, ok := v.node.(*ast.MappingNode)
	if !ok {
		if !missing(v.node) {
			d.report(v.at, v.path, "want keys and values")
		}
		return
	}
	keys := keysOf(into.Type())
	seen := map[string]position{}
	for _, pair := range mapping.Values {
		at := where(pair.Key)
		switch pair.Key.(type) {
		case *ast.MergeKeyNode, *ast.MappingKeyNode:
			d.report(at, v.path, "merge keys (<<) and keys behind a question mark are not supported; write key: value for each")
			continue
		}
		name := pair.Key.GetToken().Value
		key, known := keys[name]
		first, again := seen[name]
		switch {
		case !known:
			if keyShape.MatchString(name) {
				d.report(at, v.path, "unknown key %s; known here: %s", name, strings.Join(slices.Sorted(maps.Keys(keys)), ", "))
			} else {
				d.report(at, v.path, `this is not a known key; is the space behind a ":" missing?`)
			}
			continue
		case again:
			d.report(at, v.path, "key %s is given twice, first in line %d; keep one", name, first.line)
			continue
		}
		seen[name] = at
		path := strings.TrimPrefix(v.path+"."+name, ".")
		d.decode(value{path: path, node: pair.Value, tag: key.tag, file: key.file}, at, into.Field(key.index))
	}
}

// A key is one that a section may have.
type key struct {
	index int // of the field
	tag   reflect.StructTag
	file  bool
}

// keysOf returns the keys of a struct.
func keysOf(t reflect.Type) map[string]key {
	keys := map[string]key{}
	for i := range t.NumField() {
		f := t.Field(i)
		name := f.Tag.Get("yaml")
		if name == "" {
			continue
		}
		keys[name] = key{index: i, tag: f.Tag}
		if f.Type == reflect.TypeFor[Credential]() {
			keys[name+"_file"] = key{index: i, tag: f.Tag, file: true}
		}
	}
	return keys
}

// keyShape is what may be repeated in an error: any key of ours, any typing
// error in one, but no token or secret, which are longer.
var keyShape = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]{0,25}$`)

// list decodes a sequence.
func (d *decoder) list(v value, into reflect.Value) {
	sequence, ok := v.node.(*ast.SequenceNode)
	if !ok {
		if !missing(v.node) {
			d.report(v.at, v.path, "want a list; write each element in a line of its own behind \"- \", or all as [a, b]")
		}
		return
	}
	into.SetZero()
	for i, node := range sequence.Values {
		dash := where(node)
		if !sequence.IsFlowStyle && i < len(sequence.Entries) {
			dash = positionOf(sequence.Entries[i].Start)
		}
		element := reflect.New(into.Type().Elem()).Elem()
		path := fmt.Sprintf("%s[%d]", v.path, i)
		d.decode(value{path: path, node: node, tag: v.tag}, dash, element)
		into.Set(reflect.Append(into, element))
	}
}

// scalar decodes a single value. YAML's own types don't matter: the field decides
// whether 300 or yes is a number, a text or a mistake.
func (d *decoder) scalar(v value, into reflect.Value) {
	var text string
	var vars []string
	var err error
	switch n := v.node.(type) {
	case *ast.StringNode:
		text, vars, err = expand(n.Value, d.lookupEnv)
	case *ast.LiteralNode:
		text, vars, err = expand(n.Value.Value, d.lookupEnv)
	case *ast.NullNode, nil:
		d.report(v.at, v.path, `has no value; give it one, write "" for an empty one, or leave the line out`)
		return
	case ast.ScalarNode:
		text = n.GetToken().Value
	default:
		d.report(v.at, v.path, "want a single value")
		return
	}
	if err != nil {
		d.report(v.at, v.path, "%v", err)
		return
	}
	if err := d.set(into.Addr().Interface(), v, text, len(vars) > 0); err != nil {
		origin := ""
		if len(vars) > 0 { // the place to mend is not in the file
			origin = " (the value comes from the environment variable " + strings.Join(vars, " and ") + ")"
		}
		d.report(v.at, v.path, "%v%s", err, origin)
	}
}

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
