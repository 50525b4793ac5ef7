// Package doctest reads the project's documents for the tests that run what
// stands in them.
//
// Its invariant: every fenced block of a document is returned, in its order, so
// that a test which deals with all of them leaves none out.
package doctest

import (
	"os"
	"strings"
	"testing"
)

// A Block is a fenced block of a Markdown file.
type Block struct {
	Line     int    // of its opening fence, from 1
	Language string // behind the opening fence; "" if there is none
	Text     string // between the fences, with its last line break
	Heading  string // the nearest heading above, without its marks
}

// Blocks returns the fenced blocks of a file. A fence that is not closed, and a
// file that cannot be read, end the test.
func Blocks(t testing.TB, path string) []Block {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var blocks []Block
	var open *Block
	heading, n := "", 0
	for line := range strings.Lines(string(text)) {
		n++
		fence, isFence := strings.CutPrefix(line, "```")
		switch {
		case isFence && open == nil:
			open = &Block{Line: n, Language: strings.TrimSpace(fence), Heading: heading}
		case isFence:
			blocks = append(blocks, *open)
			open = nil
		case open != nil:
			open.Text += line
		case strings.HasPrefix(line, "#"):
			heading = strings.TrimSpace(strings.TrimLeft(line, "#"))
		}
	}
	if open != nil {
		t.Fatalf("%s:%d: the block is not closed", path, open.Line)
	}
	return blocks
}
