package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
)

// The roles in which this program starts itself; hidden commands.
const (
	rolePolar  = "polar"
	roleWorker = "worker"
)

// A workerSpec says what a baseline's process does. It comes on standard input,
// since arguments are visible to everybody on the machine.
type workerSpec struct {
	Kind  string `json:"kind"` // download, copy or plain
	Polar polarInfo
	URL   string     // of the database
	Files []copyFile // for copy
}

// A workerResult is what the process did.
type workerResult struct {
	Rows     int   `json:"rows"`
	Requests int64 `json:"requests"`
}

// work is the process of a baseline.
func work(ctx context.Context, stdin io.Reader, stdout io.Writer) error {
	var spec workerSpec
	if err := json.NewDecoder(stdin).Decode(&spec); err != nil {
		return fmt.Errorf("read spec: %w", err)
	}
	var result workerResult
	var err error
	switch spec.Kind {
	case "download":
		result, err = download(ctx, spec)
	case "copy":
		result, err = copyIn(ctx, spec)
	case "plain":
		result, err = plainScript(ctx, spec)
	default:
		err = errors.New("no such baseline")
	}
	if err != nil {
		return fmt.Errorf("%s: %w", spec.Kind, err)
	}
	return json.NewEncoder(stdout).Encode(result)
}

// worker prepares the process of a baseline.
func worker(ctx context.Context, spec workerSpec) (*exec.Cmd, error) {
	text, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	cmd, err := self(ctx, roleWorker)
	if err != nil {
		return nil, err
	}
	cmd.Stdin = strings.NewReader(string(text))
	return cmd, nil
}

// baseline measures a baseline that works on db, and proves that it handled
// every row.
func (b *bench) baseline(ctx context.Context, db *database, rows int, spec workerSpec) (sample, error) {
	cmd, err := worker(ctx, spec)
	if err != nil {
		return sample{}, err
	}
	taken, err := db.sampled(ctx, rows, cmd)
	if err != nil {
		return sample{}, err
	}
	var result workerResult
	if err := json.Unmarshal(taken.stdout, &result); err != nil {
		return sample{}, fmt.Errorf("baseline %s: %w", spec.Kind, err)
	}
	if result.Rows != rows {
		return sample{}, fmt.Errorf("baseline %s: %d rows of %d", spec.Kind, result.Rows, rows)
	}
	taken.requests = result.Requests
	return taken, nil
}
