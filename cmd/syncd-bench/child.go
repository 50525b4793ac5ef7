package main

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// A usage is what a process took, from its start to its end.
type usage struct {
	wall   time.Duration
	cpu    time.Duration // user and system
	peak   int64         // bytes resident at most
	stdout []byte
}

// peakEvery is how often a process's peak memory is looked at. The kernel keeps
// the peak; only what grows after the last look is missed.
const peakEvery = 10 * time.Millisecond

// measure runs a process to its end. Its error holds the end of what the
// process wrote to stderr.
func measure(cmd *exec.Cmd) (usage, error) {
	c, err := startChild(cmd)
	if err != nil {
		return usage{}, err
	}
	return c.wait()
}

// A child is a running process that is being measured.
type child struct {
	cmd            *exec.Cmd
	stdout, stderr bytes.Buffer
	began          time.Time
	stopLooking    context.CancelFunc
	looking        sync.WaitGroup
	peak           atomic.Int64
}

func startChild(cmd *exec.Cmd) (*child, error) {
	c := &child{cmd: cmd}
	cmd.Stdout, cmd.Stderr = &c.stdout, &c.stderr
	c.began = time.Now()
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", filepath.Base(cmd.Path), err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	c.stopLooking = cancel
	c.looking.Go(func() { c.look(ctx) })
	return c, nil
}

func (c *child) look(ctx context.Context) {
	ticker := time.NewTicker(peakEvery)
	defer ticker.Stop()
	for ctx.Err() == nil {
		if peak, ok := peakMemory(c.cmd.Process.Pid); ok {
			c.peak.Store(peak)
		}
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
}

func (c *child) wait() (usage, error) {
	err := c.cmd.Wait()
	u := usage{wall: time.Since(c.began), stdout: c.stdout.Bytes()}
	c.stopLooking()
	c.looking.Wait()
	state := c.cmd.ProcessState
	// A service that was told to stop and did so in order has succeeded, though
	// os/exec reports why it was told.
	if err != nil && !state.Success() {
		return u, fmt.Errorf("%s: %w%s", filepath.Base(c.cmd.Path), err, tail(c.stderr.Bytes()))
	}
	u.cpu, u.peak = state.UserTime()+state.SystemTime(), c.peak.Load()
	if ru, ok := state.SysUsage().(*syscall.Rusage); ok && u.peak == 0 {
		u.peak = int64(ru.Maxrss) * maxRSSUnit()
	}
	return u, nil
}
