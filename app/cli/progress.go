package cli

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
)

// progress says how far a command has come, on a terminal, and what else there is to say.
type progress struct {
	out          io.Writer
	shows, quiet bool
	begun, shown time.Time
}

func newProgress(out io.Writer, quiet bool) *progress {
	now := time.Now()
	return &progress{out: out, shows: isTerminal(out) && !quiet, quiet: quiet, begun: now, shown: now}
}

func isTerminal(out io.Writer) bool {
	file, ok := out.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// show shows how much is done now and then, as a bar where it is known of how much.
func (p *progress) show(done, total int64, count int, what string) {
	if !p.shows || time.Since(p.shown) < 200*time.Millisecond {
		return
	}
	p.shown = time.Now()
	rate := int(float64(count) / time.Since(p.begun).Seconds())
	fmt.Fprintf(p.out, "\r\033[K%s%s %s, %s/s", bar(done, total), grouped(count), what, grouped(rate))
}

// barWidth is how wide the bar is, in characters.
const barWidth = 24

// bar draws a bar and a percentage, "" where there is no total.
func bar(done, total int64) string {
	if total <= 0 {
		return ""
	}
	done = min(done, total)
	full := int(done * barWidth / total)
	return fmt.Sprintf("[%s%s] %3d%%  ", strings.Repeat("#", full), strings.Repeat(".", barWidth-full), done*100/total)
}

// say prints a line, in place of what is shown.
func (p *progress) say(format string, args ...any) {
	if p.shows {
		format = "\r\033[K" + format
	}
	fmt.Fprintf(p.out, format+"\n", args...)
}

func (p *progress) retrying(err error, wait time.Duration) {
	if !p.quiet {
		p.say("%v; trying again in %v", err, wait)
	}
}

// took is how long it has taken, for people.
func (p *progress) took() time.Duration {
	took := time.Since(p.begun)
	if took < 10*time.Second {
		return took.Round(time.Millisecond)
	}
	return took.Round(time.Second)
}

// grouped writes a number as people read it: 50,000.
func grouped(n int) string {
	text := strconv.Itoa(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// counted writes a number of things: 1 line, 2 lines.
func counted(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return grouped(n) + " " + thing + "s"
}
