package mapping

import (
	"strconv"
	"strings"
)

// What numeric can hold: digits before the point, and after it (numeric.h,
// NUMERIC_WEIGHT_MAX and NUMERIC_DSCALE_MAX).
const (
	maxWhole    = 131072
	maxFraction = 16383
)

// number reads a number and writes it as numeric prints it: without an exponent,
// with the digits after the point that it was written with.
func (p *jsonParser) number() bool {
	start := p.at
	p.skip("-")
	whole := p.digits()
	if whole == "" || whole[0] == '0' && len(whole) > 1 {
		return false
	}
	fraction := ""
	if p.skip(".") {
		if fraction = p.digits(); fraction == "" {
			return false
		}
	}
	exponent := 0
	if p.skip("eE") {
		sign := p.at
		p.skip("+-")
		digits := p.digits()
		if digits == "" {
			return false
		}
		negative := p.in[sign] == '-'
		// Longer ones are out of range whatever they say.
		n, err := strconv.Atoi(digits)
		if err != nil || n > 1<<20 {
			return false
		}
		if exponent = n; negative {
			exponent = -n
		}
	}
	s, ok := plainNumber(whole, fraction, exponent)
	if !ok {
		return false
	}
	if p.in[start] == '-' && strings.Trim(s, "0.") != "" {
		p.out = append(p.out, '-')
	}
	p.out = append(p.out, s...)
	return true
}

// plainNumber moves the point of whole.fraction by exponent.
func plainNumber(whole, fraction string, exponent int) (string, bool) {
	scale := max(0, len(fraction)-exponent)
	if scale > maxFraction {
		return "", false
	}
	digits := whole + fraction
	point := len(whole) + exponent
	if strings.Trim(digits, "0") == "" {
		digits, point = "", 0 // zero, whatever its exponent
	}
	if point > maxWhole+len(whole)+len(fraction) {
		return "", false
	}
	if point <= 0 {
		digits, point = strings.Repeat("0", 1-point)+digits, 1
	}
	if need := point + scale - len(digits); need > 0 {
		digits += strings.Repeat("0", need)
	}
	w := strings.TrimLeft(digits[:point], "0")
	if len(w) > maxWhole {
		return "", false
	}
	if w == "" {
		w = "0"
	}
	if scale == 0 {
		return w, true
	}
	return w + "." + digits[point:point+scale], true
}

// skip consumes one byte if it is among set.
func (p *jsonParser) skip(set string) bool {
	if p.at < len(p.in) && strings.IndexByte(set, p.in[p.at]) >= 0 {
		p.at++
		return true
	}
	return false
}

func (p *jsonParser) digits() string {
	start := p.at
	for p.at < len(p.in) && '0' <= p.in[p.at] && p.in[p.at] <= '9' {
		p.at++
	}
	return p.in[start:p.at]
}
