// Package doctest reads the fenced blocks of Markdown documents, so that tests
// can run what the documents show.
//
// Its invariant: no block is passed over. A fence that never closes fails the
// test.
package doctest

import (
	"os"
	"strings"
	"testing"
)

// A Block is one fenced block.
type Block struct {
	Line     int    // of the first line of Text, counted from 1
	Language string // first word after the opening fence, such as "sql"; "" if none
	Text     string // the lines between the fences, each with its line break
	Heading  string // the nearest heading above, without its marks; "" if none
}

// Blocks returns the fenced blocks of the Markdown file at path, in their order.
// Fences are three or more backticks or tildes; as CommonMark has it, a block
// ends at a fence of the same sign that is at least as long. A fence that is
// indented, in a list for one, takes its indentation from the lines in it.
func Blocks(t testing.TB, path string) []Block {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	blocks, open := parse(string(text))
	if open > 0 {
		t.Fatalf("%s:%d: this fence is never closed", path, open)
	}
	return blocks
}

// parse returns the blocks of text, and the line of a fence left open, else 0.
func parse(text string) (blocks []Block, open int) {
	var heading, fence, indent string
	var block Block
	number := 0
	for line := range strings.Lines(text) {
		number++
		bare := strings.TrimRight(line, "\r\n")
		trimmed := strings.TrimLeft(bare, " ")
		sign := opening(trimmed)
		switch {
		case fence == "" && sign != "":
			fence, indent = sign, bare[:len(bare)-len(trimmed)]
			open = number
			block = Block{Line: number + 1, Heading: heading, Language: language(trimmed[len(sign):])}
		case fence == "":
			if title, ok := title(bare); ok {
				heading = title
			}
		case strings.HasPrefix(sign, fence) && strings.TrimSpace(trimmed[len(sign):]) == "":
			blocks = append(blocks, block)
			fence, open = "", 0
		default:
			block.Text += unindent(bare, indent) + "\n"
		}
	}
	return blocks, open
}

// opening returns the fence that line begins with, "" if it begins with none.
func opening(line string) string {
	for _, sign := range []string{"`", "~"} {
		rest := strings.TrimLeft(line, sign)
		if n := len(line) - len(rest); n >= 3 && (sign == "~" || !strings.Contains(rest, "`")) {
			return line[:n]
		}
	}
	return ""
}

func language(info string) string {
	first, _, _ := strings.Cut(strings.TrimSpace(info), " ")
	return first
}

// title returns the text of a heading written with number signs.
func title(line string) (string, bool) {
	rest := strings.TrimLeft(line, "#")
	if depth := len(line) - len(rest); depth == 0 || depth > 6 || !strings.HasPrefix(rest, " ") {
		return "", false
	}
	return strings.TrimSpace(rest), true
}

// unindent takes as much of indent off line as line has.
func unindent(line, indent string) string {
	n := 0
	for n < len(indent) && n < len(line) && line[n] == ' ' {
		n++
	}
	return line[n:]
}
