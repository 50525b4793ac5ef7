package polar

import (
	"fmt"
	"strings"
	"time"
)

// decodeOptionalTime decodes a timestamp; null is the zero time.
func decodeOptionalTime(value []byte) (time.Time, error) {
	if isNull(value) {
		return time.Time{}, nil
	}
	return decodeTime(value)
}

// decodeTime decodes a timestamp of RFC 3339 into UTC. Digits beyond
// microseconds, which Polar does not send and Postgres does not keep, are cut
// off. Years outside 1 to 9999, and the zero time, which stands for absence
// here, are errors.
func decodeTime(value []byte) (time.Time, error) {
	if value[0] != '"' {
		return time.Time{}, wantKind("a timestamp", value)
	}
	text := unquote(value)
	t, ok := parseTime(text)
	if !ok {
		return time.Time{}, fmt.Errorf("%s is no RFC 3339 timestamp", excerpt(string(text)))
	}
	if t.IsZero() || t.Year() < 1 || t.Year() > 9999 {
		return time.Time{}, fmt.Errorf("%s is out of range", excerpt(string(text)))
	}
	return t, nil
}

// parseTime is stricter than time.Parse, which also takes commas, and several
// times as fast.
func parseTime(text []byte) (time.Time, bool) {
	const shape = "0000-00-00T00:00:00"
	if len(text) <= len(shape) {
		return time.Time{}, false
	}
	for i := range len(shape) {
		c, digit := text[i], '0' <= text[i] && text[i] <= '9'
		if digit != (shape[i] == '0') || !digit && c != shape[i] && (shape[i] != 'T' || c != 't') {
			return time.Time{}, false
		}
	}
	year, month, day := number(text[0:4]), time.Month(number(text[5:7])), number(text[8:10])
	hour, minute, second := number(text[11:13]), number(text[14:16]), number(text[17:19])
	if hour > 23 || minute > 59 || second > 59 {
		return time.Time{}, false
	}
	micros, rest, ok := fraction(text[len(shape):])
	if !ok {
		return time.Time{}, false
	}
	offset, ok := zone(rest)
	if !ok {
		return time.Time{}, false
	}
	t := time.Date(year, month, day, hour, minute, second, micros*1000, time.UTC)
	if t.Month() != month || t.Day() != day {
		return time.Time{}, false // time.Date made the 31st of April the 1st of May
	}
	return t.Add(-offset), true
}

// number is the value of digits.
func number(digits []byte) int {
	n := 0
	for _, c := range digits {
		n = n*10 + int(c-'0')
	}
	return n
}

// fraction reads the optional fraction of a second, in microseconds.
func fraction(text []byte) (micros int, rest []byte, ok bool) {
	if text[0] != '.' {
		return 0, text, true
	}
	end := digitsEnd(text, 1)
	if end == 1 {
		return 0, nil, false
	}
	for i := 1; i <= 6; i++ {
		micros *= 10
		if i < end {
			micros += int(text[i] - '0')
		}
	}
	return micros, text[end:], true
}

// zone reads Z or an offset such as +02:00.
func zone(text []byte) (time.Duration, bool) {
	if len(text) == 1 && (text[0] == 'Z' || text[0] == 'z') {
		return 0, true
	}
	if len(text) != 6 || !strings.ContainsRune("+-", rune(text[0])) || text[3] != ':' ||
		digitsEnd(text, 1) != 3 || digitsEnd(text, 4) != 6 {
		return 0, false
	}
	hours, minutes := number(text[1:3]), number(text[4:6])
	if hours > 23 || minutes > 59 {
		return 0, false
	}
	offset := time.Duration(hours)*time.Hour + time.Duration(minutes)*time.Minute
	if text[0] == '-' {
		offset = -offset
	}
	return offset, true
}
