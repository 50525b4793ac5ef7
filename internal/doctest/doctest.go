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
// Fences are three backticks. A fence that is indented, in a list for one, takes its
// indentation from the lines in it.
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

var headingLine = regexp.MustCompile(`^#{1,6} +(.*?)\s*$`)

// parse returns the blocks of text, and the line of a fence left open, else 0.
func parse(text string) (blocks []Block, open int) {
	var heading, margin string
	var block Block
	number := 0
	for line := range strings.Lines(text) {
		number++
		indent, language, fence := strings.Cut(line, "```")
		fence = fence && strings.TrimSpace(indent) == ""
		switch {
		case fence && open > 0:
			blocks = append(blocks, block)
			open = 0
		case fence:
			open, margin = number, indent
			block = Block{Line: number + 1, Heading: heading, Language: strings.TrimSpace(language)}
		case open > 0:
			block.Text += strings.TrimPrefix(line, margin)
		default:
			if title := headingLine.FindStringSubmatch(line); title != nil {
				heading = title[1]
			}
		}
	}
	return blocks, open
}
