package docs

import (
	"fmt"
	"strings"
)

const introduction = "# Schema `polar`\n" + `
This page is made from the comments in the database; psql shows the same: ` + "`\\d+ polar.customer_meters`" + `. What to ask is in [queries.md](queries.md), what holds
personal data in [security.md](security.md). Consumed units and balances have the digits that Polar sent.

`

const diagramNote = "A solid line is a foreign key. A dotted one is a column that refers to the other table by its name alone.\n\n"

func (s *schema) markdown() string {
	var b strings.Builder
	b.WriteString(introduction)
	s.contents(&b)
	b.WriteString("\n## Diagram\n\n" + diagramNote)
	s.diagram(&b)
	b.WriteString("\n## Views\n")
	s.describeAll(&b, "view")
	b.WriteString("\n## Functions\n")
	for _, f := range s.functions {
		f.describe(&b)
	}
	b.WriteString("\n## Tables\n")
	s.describeAll(&b, "table")
	return b.String()
}

// contents lists all objects, those made to be queried first.
func (s *schema) contents(b *strings.Builder) {
	b.WriteString("| object | kind |\n|---|---|\n")
	for _, kind := range []string{"view", "function", "table"} {
		for _, r := range s.relations {
			if r.Kind == kind {
				fmt.Fprintf(b, "| [`%s`](#%s) | %s |\n", r.Name, anchor(r.Name), kind)
			}
		}
		for _, f := range s.functions {
			if kind == "function" {
				fmt.Fprintf(b, "| [`%s`](#%s) | %s |\n", f.title(), anchor(f.title()), kind)
			}
		}
	}
}

// diagram draws the tables that refer to others or are referred to.
func (s *schema) diagram(b *strings.Builder) {
	b.WriteString("```mermaid\nerDiagram\n")
	linked := make(map[string]bool)
	for _, l := range s.links {
		linked[l.Child], linked[l.Parent] = true, true
		one, line, many := "||", "--", "o{"
		if l.Optional {
			one = "|o"
		}
		if !l.Checked {
			line = ".."
		}
		if l.Single {
			many = "o|"
		}
		fmt.Fprintf(b, "    %s %s%s%s %s : %s\n", l.Parent, one, line, many, l.Child, l.Column)
	}
	for _, r := range s.relations {
		if !linked[r.Name] {
			continue
		}
		fmt.Fprintf(b, "    %s {\n", r.Name)
		for _, c := range s.columns {
			if c.Relation == r.Name {
				// Mermaid takes one word as a type.
				fmt.Fprintf(b, "        %s %s%s\n", shortType(c.Type), c.Name, s.role(c))
			}
		}
		b.WriteString("    }\n")
	}
	b.WriteString("```\n")
}

// role marks primary and foreign keys as Mermaid does.
func (s *schema) role(c column) string {
	var marks []string
	if c.Primary {
		marks = append(marks, "PK")
	}
	for _, l := range s.links {
		if l.Child == c.Relation && l.Column == c.Name && l.Checked {
			marks = append(marks, "FK")
		}
	}
	if len(marks) == 0 {
		return ""
	}
	return " " + strings.Join(marks, ", ")
}

func (s *schema) describeAll(b *strings.Builder, kind string) {
	for _, r := range s.relations {
		if r.Kind == kind {
			s.describe(b, r)
		}
	}
}

func (s *schema) describe(b *strings.Builder, r relation) {
	fmt.Fprintf(b, "\n### %s\n\n%s\n\n", r.Name, r.Comment)
	table := r.Kind == "table"
	if table {
		b.WriteString("| column | type | null | default | holds |\n|---|---|---|---|---|\n")
	} else {
		b.WriteString("| column | type | holds |\n|---|---|---|\n")
	}
	var primary []string
	for _, c := range s.columns {
		if c.Relation != r.Name {
			continue
		}
		if c.Primary {
			primary = append(primary, c.Name)
		}
		if table {
			fmt.Fprintf(b, "| `%s` | %s | %s | %s | %s |\n", c.Name, shortType(c.Type), null(c), code(c.Default), cell(c.Comment))
		} else {
			fmt.Fprintf(b, "| `%s` | %s | %s |\n", c.Name, shortType(c.Type), cell(c.Comment))
		}
	}
	if !table {
		return
	}
	b.WriteString("\n")
	if len(primary) > 0 {
		fmt.Fprintf(b, "- Primary key: `%s`\n", strings.Join(primary, ", "))
	} else {
		b.WriteString("- Primary key: none\n")
	}
	if r.PartitionedBy != "" {
		fmt.Fprintf(b, "- Partitioned by `%s`\n", r.PartitionedBy)
	}
	s.describeKeys(b, r)
}

func (s *schema) describeKeys(b *strings.Builder, r relation) {
	for _, k := range s.keys {
		if k.Relation == r.Name {
			fmt.Fprintf(b, "- Constraint `%s`: `%s`\n", k.Name, k.Definition)
		}
	}
	for _, i := range s.indexes {
		if i.Relation != r.Name {
			continue
		}
		fmt.Fprintf(b, "- Index `%s`: `%s`", i.Name, i.Definition)
		if i.Comment != "" {
			b.WriteString(" " + i.Comment)
		}
		b.WriteString("\n")
	}
}

func (f function) title() string { return f.Name + "(" + shortType(f.Arguments) + ")" }

func (f function) describe(b *strings.Builder) {
	fmt.Fprintf(b, "\n### %s\n\n%s\n\n", f.title(), f.Comment)
	columns, ok := strings.CutPrefix(f.Result, "TABLE(")
	if !ok {
		fmt.Fprintf(b, "Returns `%s`.\n", f.Result)
		return
	}
	b.WriteString("| column | type |\n|---|---|\n")
	for c := range strings.SplitSeq(strings.TrimSuffix(columns, ")"), ", ") {
		name, kind, _ := strings.Cut(c, " ")
		fmt.Fprintf(b, "| `%s` | %s |\n", name, shortType(kind))
	}
}

func shortType(name string) string {
	return strings.NewReplacer("timestamp with time zone", "timestamptz",
		"timestamp without time zone", "timestamp").Replace(name)
}

func null(c column) string {
	if c.Required {
		return ""
	}
	return "null"
}

func code(text string) string {
	if text == "" {
		return ""
	}
	return "`" + cell(text) + "`"
}

// cell escapes what would end a table's cell.
func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }

// anchor is how GitHub addresses a heading.
func anchor(heading string) string {
	keep := func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '_' || r == '-' || r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
			return r
		}
		return -1
	}
	return strings.Map(keep, strings.ToLower(heading))
}
