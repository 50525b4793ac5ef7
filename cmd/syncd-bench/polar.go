package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"
)

// polar is the process that plays Polar, as its parent sees it.
type polar struct {
	polarInfo
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Reader
	stderr bytes.Buffer
}

// stopTime is how long a process may take to end once it is told to.
const stopTime = 10 * time.Second

// self prepares this program in another role. Unlike a program of its own, a
// test binary has to be told what it is.
func self(ctx context.Context, role string) (*exec.Cmd, error) {
	path, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	cmd := exec.CommandContext(ctx, path, role)
	cmd.Env = append(os.Environ(), roleEnv+"=1")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = stopTime
	return cmd, nil
}

// roleEnv marks a process as one of this program's helpers.
const roleEnv = "SYNCD_BENCH_ROLE"

// startPolar starts a process that plays Polar, and waits until it serves.
func startPolar(ctx context.Context, spec polarSpec) (*polar, error) {
	// Not ended by ctx: it ends when its standard input does, after the others.
	cmd, err := self(context.WithoutCancel(ctx), rolePolar)
	if err != nil {
		return nil, err
	}
	p := &polar{cmd: cmd}
	cmd.Stderr = &p.stderr
	if p.in, err = cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("start the simulated Polar: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start the simulated Polar: %w", err)
	}
	p.out = bufio.NewReader(out)
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the simulated Polar: %w", err)
	}
	first, err := json.Marshal(spec)
	if err == nil {
		err = p.ask(ctx, string(first), &p.polarInfo)
	}
	if err != nil {
		p.close()
		return nil, fmt.Errorf("start the simulated Polar: %w%s", err, tail(p.stderr.Bytes()))
	}
	return p, nil
}

// ask writes a line and reads the answer. When ctx ends first the process is
// told to end, which ends the wait.
func (p *polar) ask(ctx context.Context, line string, answer any) error {
	stop := context.AfterFunc(ctx, func() { _ = p.cmd.Process.Kill() })
	defer stop()
	if _, err := io.WriteString(p.in, line+"\n"); err != nil {
		return err
	}
	text, err := p.out.ReadBytes('\n')
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(text, answer)
}

// do sends one command.
func (p *polar) do(ctx context.Context, format string, args ...any) (polarReply, error) {
	var reply polarReply
	line := fmt.Sprintf(format, args...)
	if err := p.ask(ctx, line, &reply); err != nil {
		return reply, fmt.Errorf("tell the simulated Polar to %s: %w", line, err)
	}
	if reply.Error != "" {
		return reply, fmt.Errorf("simulated Polar: %s", reply.Error)
	}
	return reply, nil
}

// close ends the process and waits for it.
func (p *polar) close() {
	_ = p.in.Close()
	kill := time.AfterFunc(stopTime, func() { _ = p.cmd.Process.Kill() })
	defer kill.Stop()
	_ = p.cmd.Wait() // how it ends does not matter
}

// tail is the end of what a process wrote, for an error.
func tail(output []byte) string {
	output = bytes.TrimSpace(output)
	const most = 1000
	if len(output) > most {
		output = output[len(output)-most:]
	}
	if len(output) == 0 {
		return ""
	}
	return ": " + string(output)
}
