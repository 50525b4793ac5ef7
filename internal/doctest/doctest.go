// Package doctest reads the fenced blocks of Markdown documents, so that tests
// can run what the documents show.
//
// Its invariant: no block is passed over. A fence that never closes fails the
// test.
package doctest

import (
	"os"
	"regexp"
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

var (
	fenceLine   = regexp.MustCompile("^( *)(`{3,}|~{3,}) *([^` ]*)([^`]*)$") // indentation, fence, first word, rest
	headingLine = regexp.MustCompile(`^#{1,6} +(.*?) *$`)
)

// parse returns the blocks of text, and the line of a fence left open, else 0.
func parse(text string) (blocks []Block, open int) {
	var heading, fence string
	var block Block
	number, indent := 0, 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimRight(line, "\r\n")
		m := fenceLine.FindStringSubmatch(line)
		switch {
		case open == 0 && m != nil:
			open, indent, fence = number, len(m[1]), m[2]
			block = Block{Line: number + 1, Heading: heading, Language: m[3]}
		case open == 0:
			if title := headingLine.FindStringSubmatch(line); title != nil {
				heading = title[1]
			}
		case m != nil && strings.HasPrefix(m[2], fence) && m[3]+strings.TrimSpace(m[4]) == "":
			blocks = append(blocks, block)
			open = 0
		default:
			cut := min(indent, len(line))
			block.Text += strings.TrimLeft(line[:cut], " ") + line[cut:] + "\n"
		}
	}
	return blocks, open
}
