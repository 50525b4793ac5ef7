package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"unicode"

	"polarmirror/internal/secret"
)

// maxFile bounds what is read of any file, in bytes. A configuration of a
// thousand organizations has about a tenth of it.
const maxFile = 1 << 20

// A Credential is a token or secret: a value from the configuration, or the path
// of a file that holds it. Its zero value is the absence of one.
type Credential struct {
	Value secret.Secret
	File  string // "" where Value is set
}

// IsZero reports whether there is neither value nor file.
func (c Credential) IsZero() bool { return c.Value.IsZero() && c.File == "" }

// Read returns the value, read from the file anew where there is one, so that a
// secret replaced on disk is found without a restart. Space and line breaks
// around it are cut off. An error names the file and shows nothing of it.
func (c Credential) Read() (secret.Secret, error) {
	if c.File == "" {
		return c.Value, nil
	}
	return readSecret(readFile, c.File, c.File, checkSecret)
}

// readSecret reads the secret that a file holds; name stands for the file in
// errors.
func readSecret(read func(string) ([]byte, error), file, name string, check func(string) error) (secret.Secret, error) {
	body, err := read(file)
	text := strings.TrimSpace(string(body))
	switch {
	case err != nil:
		err = fileReason(err)
	case text == "":
		err = errors.New("the file is empty")
	default:
		err = check(text)
	}
	if err != nil {
		return secret.Secret{}, fmt.Errorf("read %s: %w", name, err)
	}
	return secret.New(text), nil
}

// checkSecret refuses what is always an accident: a trailing line break, two
// secrets, a whole file pasted in.
func checkSecret(text string) error {
	if len(text) > 4096 {
		return errors.New("it is longer than 4096 bytes; is this the right one?")
	}
	if strings.TrimSpace(text) != text {
		return errors.New("it begins or ends with a space or a line break; copy it again")
	}
	for _, r := range text {
		if r == unicode.ReplacementChar || unicode.IsControl(r) {
			return errors.New("it contains a line break or a broken character; copy it again")
		}
	}
	return nil
}

// checkToken also refuses what an Authorization header can't carry.
func checkToken(text string) error {
	for _, r := range text {
		if r == ' ' || r > unicode.MaxASCII {
			return errors.New("it contains a space or a character that no token has; copy it again")
		}
	}
	return checkSecret(text)
}

// readFile reads up to maxFile bytes of a file, and refuses longer ones.
func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // read only: nothing to lose
	body, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(body) > maxFile {
		return nil, errTooLong
	}
	return body, nil
}

var errTooLong = fmt.Errorf("the file is longer than %d bytes", maxFile)

// fileReason is why a file can't be read, without its path: the caller names it,
// or must not because it came from the environment.
func fileReason(err error) error {
	var pathErr *fs.PathError
	switch {
	case errors.Is(err, fs.ErrNotExist): // in the same words on every system
		return fs.ErrNotExist
	case errors.As(err, &pathErr):
		return pathErr.Err
	}
	return err
}
