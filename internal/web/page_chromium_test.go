//go:build browser

package web_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"
)

// A chromium is a headless Chromium that is driven by the DevTools protocol
// over two pipes: JSON messages, each with a zero byte after it.
// https://chromedevtools.github.io/devtools-protocol/
type chromium struct {
	commands io.Writer

	mu      sync.Mutex
	last    int                 // id of the last command
	waiting map[int]chan answer // by id; nil once Chromium is gone
}

type answer struct {
	ID     int
	Result json.RawMessage
	Error  *struct{ Message string }
}

// parameters are those of a command.
type parameters map[string]any

func newBrowser(t *testing.T) *chromium {
	t.Helper()
	// Not t.TempDir, which fails the test if a process of Chromium's still
	// writes there.
	profile, err := os.MkdirTemp("", "syncd-chromium-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(profile) })
	cmd := exec.Command("chromium", "--headless", "--remote-debugging-pipe", "--user-data-dir="+profile,
		"--no-first-run", "--hide-scrollbars", "--disable-background-networking", "--disable-dev-shm-usage",
		"--disable-background-timer-throttling", "--disable-backgrounding-occluded-windows", "--disable-renderer-backgrounding")
	if os.Getuid() == 0 {
		cmd.Args = append(cmd.Args, "--no-sandbox") // Chromium refuses to start as root with one
	}
	theirIn, commands, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	messages, theirOut, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.ExtraFiles = []*os.File{theirIn, theirOut} // 3 and 4
	if err := cmd.Start(); err != nil {
		t.Fatalf("these tests need Chromium (apt-get install chromium): %v", err)
	}
	_, _ = theirIn.Close(), theirOut.Close()
	c := &chromium{commands: commands, waiting: map[int]chan answer{}}
	var reading sync.WaitGroup
	reading.Go(func() { c.read(messages) })
	t.Cleanup(func() {
		_, _ = c.call("", "Browser.close", nil)
		_ = commands.Close() // Chromium ends with its pipe
		_ = cmd.Wait()
		reading.Wait()
		_ = messages.Close()
	})
	return c
}

// read hands the answers to those who wait for them, until Chromium ends.
func (c *chromium) read(messages io.Reader) {
	in := bufio.NewReader(messages)
	for {
		message, err := in.ReadBytes(0)
		if err != nil {
			break
		}
		var a answer
		if json.Unmarshal(message[:len(message)-1], &a) != nil || a.ID == 0 {
			continue // an event
		}
		c.mu.Lock()
		if waiting, ok := c.waiting[a.ID]; ok {
			waiting <- a
			delete(c.waiting, a.ID)
		}
		c.mu.Unlock()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, waiting := range c.waiting {
		close(waiting)
	}
	c.waiting = nil
}

// call sends a command, to the browser itself if session is "".
func (c *chromium) call(session, method string, params parameters) (json.RawMessage, error) {
	waiting := make(chan answer, 1)
	err := c.send(session, method, params, waiting)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", method, err)
	}
	var a answer
	var ok bool
	select {
	case a, ok = <-waiting:
	case <-time.After(patience):
		return nil, fmt.Errorf("%s: no answer", method)
	}
	if !ok {
		return nil, fmt.Errorf("%s: Chromium ended", method)
	}
	if a.Error != nil {
		return nil, fmt.Errorf("%s: %s", method, a.Error.Message)
	}
	return a.Result, nil
}

func (c *chromium) send(session, method string, params parameters, waiting chan answer) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting == nil {
		return io.ErrClosedPipe
	}
	c.last++
	message, err := json.Marshal(struct {
		ID        int        `json:"id"`
		Method    string     `json:"method"`
		Params    parameters `json:"params,omitempty"`
		SessionID string     `json:"sessionId,omitempty"`
	}{c.last, method, params, session})
	if err != nil {
		return err
	}
	c.waiting[c.last] = waiting
	_, err = c.commands.Write(append(message, 0))
	return err
}
