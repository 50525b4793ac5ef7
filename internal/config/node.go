package config

import (
	"errors"
	"fmt"
	"regexp"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// A position is a place in the file; both numbers count from 1.
type position struct{ line, column int }

func positionOf(t *token.Token) position {
	if t == nil || t.Position == nil {
		return position{1, 1}
	}
	return position{max(1, t.Position.Line), max(1, t.Position.Column)}
}

// where is the place at which a reader looks for node: a mapping between
// indentation begins at its first key, not at the colon behind it.
func where(node ast.Node) position {
	if node == nil {
		return position{1, 1}
	}
	if n, ok := node.(*ast.MappingNode); ok && !n.IsFlowStyle && len(n.Values) > 0 {
		node = n.Values[0].Key
	}
	return positionOf(node.GetToken())
}

// parse reads source as one YAML document and returns its body, nil if there is
// nothing in it.
func parse(source []byte) (body ast.Node, problem *Problem) {
	if !utf8.Valid(source) {
		return nil, &Problem{Message: "the file is not UTF-8 text; save it as UTF-8"}
	}
	// The parser is thorough and large. A defect in it must cost a newcomer
	// one line, not a stack trace.
	defer func() {
		if recover() != nil {
			body, problem = nil, &Problem{Message: "the file can't be read as YAML; compare it with config.example.yaml"}
		}
	}()
	// Duplicate keys are reported by the decoder, together with everything else.
	file, err := parser.ParseBytes(source, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return nil, syntaxProblem(err)
	}
	for _, document := range file.Docs {
		if document.Body == nil {
			continue
		}
		if body != nil {
			at := where(document.Body)
			return nil, &Problem{Line: at.line, Column: at.column, Message: "the file holds a second YAML document; keep one"}
		}
		body = document.Body
	}
	return body, nil
}

// quotedText is where the parser's messages may repeat the file.
var quotedText = regexp.MustCompile(`"[^"]{2,}"`)

// syntaxProblem keeps of the parser's error its place and reason, drops its
// excerpt of the source, and names what people mostly do wrong.
func syntaxProblem(err error) *Problem {
	var syntax yaml.Error
	if !errors.As(err, &syntax) {
		return &Problem{Message: "the file can't be read as YAML; compare it with config.example.yaml"}
	}
	at := positionOf(syntax.GetToken())
	return &Problem{Line: at.line, Column: at.column, Message: fmt.Sprintf("invalid YAML: %.100s; "+
		`here or in the line above, indent with spaces, put a space behind each ":", and put quotes around values that begin with * or @, or that hold ${ within { } or [ ]`,
		quotedText.ReplaceAllString(syntax.GetMessage(), "that"))}
}
