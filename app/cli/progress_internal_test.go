package cli

import "testing"

func TestABarFillsFromNothingToAll(t *testing.T) {
	for _, test := range []struct {
		done, total int64
		want        string
	}{
		{0, 0, ""},
		{0, 10, "[........................]   0%  "},
		{5, 10, "[############............]  50%  "},
		{10, 10, "[########################] 100%  "},
		{11, 10, "[########################] 100%  "}, // entries made while others were exported
	} {
		if got := bar(test.done, test.total); got != test.want {
			t.Errorf("%d of %d: got %q, want %q", test.done, test.total, got, test.want)
		}
	}
}

func TestNumbersAreWrittenInThousands(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 50000: "50,000", 1234567: "1,234,567"} {
		if got := grouped(n); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
