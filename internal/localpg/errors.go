package localpg

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

var (
	// errPortTaken means that another program took the port since it was chosen.
	errPortTaken = errors.New("another program has just taken the port: start again")
	// errOrphans means that processes of a killed server still use the data.
	errOrphans = errors.New("processes of an earlier server still use the data: end them and start again")
)

// describe adds to the error of a Postgres program what it said about it, in its
// own words: the last line that it marked as an error, or else its last line.
func describe(ctx context.Context, program string, err error, output string) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	said := lastLine(output)
	for line := range strings.Lines(output) {
		if strings.Contains(line, "FATAL:") || strings.Contains(line, "PANIC:") || strings.Contains(line, "error:") {
			said = strings.TrimSpace(line)
		}
	}
	err = fmt.Errorf("%s: %w", program, err)
	if said != "" {
		err = fmt.Errorf("%w: %.300s", err, said)
	}
	switch {
	case strings.Contains(output, "Address already in use"):
		return fmt.Errorf("%w: %w", err, errPortTaken)
	case strings.Contains(output, "pre-existing shared memory block"):
		return fmt.Errorf("%w: %w", err, errOrphans)
	}
	return explain(err)
}

// lastLine is the last line of text that is not blank, "" if there is none.
func lastLine(text string) string {
	text = strings.TrimSpace(text)
	return strings.TrimSpace(text[strings.LastIndexByte(text, '\n')+1:])
}

// explain adds the cure to errors that have one.
func explain(err error) error {
	text := strings.ToLower(err.Error())
	const damaged = "the data is damaged: put a backup in its place, or remove it to begin with an empty database"
	for _, known := range []struct{ sign, cure string }{
		{"is not a database cluster directory", damaged},
		{"is not a valid data directory", damaged},
		{"no space left on device", "free some space, or set database.data_dir to a folder on another disk"},
		{"read-only file system", "run syncd in a folder you can write to, or set database.data_dir to one"},
		{"permission denied", "run syncd in a folder you can write to, or set database.data_dir to one"},
		{"could not look up effective user", "run as a user that /etc/passwd knows, or set database.url"},
		{"could not create shared memory", "give the machine or container more shared memory, or set database.url"},
	} {
		if strings.Contains(text, known.sign) {
			return fmt.Errorf("%w: %s", err, known.cure)
		}
	}
	return err
}
