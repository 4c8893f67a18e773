//! Checks which calls `instrument` inserts, and where.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::engine::chat_template::budget::{GROWN, REMAINDER, SLICE, TERM, TEXT, TIMES};

/// Instruments `source` and shortens the names of the calls.
fn watched(source: &str) -> String {
    let mut text = instrument(source).unwrap();
    for (name, short) in
        [(PASS, "P"), (TERM, "N"), (TEXT, "T"), (TIMES, "X"), (REMAINDER, "R"), (GROWN, "G"), (SLICE, "S")]
    {
        text = text.replace(name, short);
    }
    text
}

#[test]
fn operands_filters_and_slices_are_wrapped_in_calls() {
    for (source, expected) in [
        ("{{ a ~ b.c['d'](e).f }}", "{{ T(a) ~ T(b.c['d'](e).f) }}"),
        ("{{ 'x' + a|trim + 1 }}", "{{ 'x' + N(G(a|trim)) + 1 }}"),
        ("{{ a | f(b ~ c) | g }}", "{{ G(a | f(T(b) ~ T(c)) | g) }}"),
        ("{{ (a ~ b) + -c * 2 }}", "{{ N((T(a) ~ T(b))) + X(-N(c) , 2) }}"),
        ("{{ a * b % c // d * -e ** 2 }}", "{{ X(R(X(a , b) , c) // d , -e ** 2) }}"),
        ("{{ a ** b % (c, d) ~ e }}", "{{ R(a ** b , T((c, d))) ~ T(e) }}"),
        ("{{ 'a%s' % b|f == c }}", "{{ R('a%s' , G(b|f)) == N(c) }}"),
        ("{{ a / b - c % d[e * f] }}", "{{ a / b - R(c , d[X(e , f)]) }}"),
        ("{{ 1e20 ~ 1 }}", "{{ T(1e20) ~ 1 }}"),
        ("{{ a[1:] + b[0] + [c] }}", "{{ N(S(a, 1, none, none)) + N(b[0]) + N([c]) }}"),
        ("{{ a[::-1] ~ b[1:c ~ d:2][0] }}", "{{ T(S(a, none, none, -1)) ~ T(S(b, 1, T(c) ~ T(d), 2)[0]) }}"),
        (
            "{% for a in b[::][::2] %}{% endfor %}",
            "{% for a in S(S(b, none, none, none), none, none, 2) %}{% do P(0, a) %}{% endfor %}",
        ),
        ("{{ x if a is string else b ~ 'c' }}", "{{ x if a is string else T(b) ~ 'c' }}"),
        ("{{ a is divisibleby(3) ~ b }}", "{{ a is divisibleby(3) ~ T(b) }}"),
        ("{{ f(*a, **b) }}", "{{ f(*a, **b) }}"),
        ("{{ {'a': b + c}['a':] }}", "{{ S({'a': N(b) + N(c)}, 'a', none, none) }}"),
        ("{% if not (a) ~ b in c %}", "{% if not T((a)) ~ T(b) in N(c) %}"),
        (
            "{% for a in b if a == c.d and e not in f %}{% endfor %}",
            "{% for a in b if a == N(c.d) and e not in N(f) %}{% do P(0, a) %}{% endfor %}",
        ),
        ("{{ a is in(b) and a is not in(b) and a < 1 }}", "{{ a is in(b) and a is not in(b) and a < 1 }}"),
        ("{% filter upper | trim %}{% endfilter %}", "{% filter upper | trim %}{% endfilter %}"),
        ("{{ -a|abs - -b|abs ~ 'c' }}", "{{ G(-a|abs) - G(T(-b|abs)) ~ 'c' }}"),
        ("{{ not[a] + b if'c'|d else[e][::2] }}", "{{ not N([a]) + N(b) if G('c'|d) else S([e], none, none, 2) }}"),
        ("{{ 'a' 'b' ~ c }}", "{{ T('a' 'b') ~ T(c) }}"),
    ] {
        assert_eq!(watched(source), expected);
    }
}

#[test]
fn set_variables_and_written_text_are_charged_for() {
    for (source, expected) in [
        ("{%- set a, ns.b = c -%} x", "{%- set a, ns.b = c %}{% do P(0, a, ns.b) -%} x"),
        ("{% set a %}xyz{% endset +%}", "{% set a %}xyz{% endset %}{% do P(0, a) +%}"),
        ("{% set a | upper %}x{% endset %}", "{% set a | upper %}x{% endset %}{% do P(0, a) %}"),
        (
            "{% for a, (b, c) in d %}12345{{ 'x' }}{% endfor %}",
            "{% for a, (b, c) in d %}{% do P(8, a, b, c) %}12345{{ 'x' }}{% endfor %}",
        ),
        ("{% macro f(a, b=[c, d]) %}12{% endmacro %}", "{% macro f(a, b=[c, d]) %}{% do P(2, a, b) %}12{% endmacro %}"),
        ("{% call(u) f(x) %}1{% endcall %}", "{% call(u) f(x) %}{% do P(1, u) %}1{% endcall %}"),
        (
            "{% with a = 1, (b, c) = d %}{% endwith %}",
            "{% with a = 1, (b, c) = d %}{% do P(0, a, b, c) %}{% endwith %}",
        ),
        ("{% generation %}x{%- endgeneration -%}", "{% if true %}x{%- endif -%}"),
        ("{%+  generation  +%}", "{%+  if true +%}"),
    ] {
        assert_eq!(watched(source), expected);
    }
}

#[test]
fn templates_that_cannot_be_instrumented_are_rejected() {
    // Malformed tags must not panic here; minijinja may reject them later.
    let _ = instrument("{{ a[::2+] ~ b }}{{ a[b:c ~ :] }}{{ not in x }}{{ in x }}{% for in x %}{% in %}");
    for source in
        ["{{ chatnap_term }}", "{{ x is y * 9 }}", "{{ x % 9 is y }}", "{{ a ) }}", "{% import 'x' as y | z %}"]
    {
        assert!(instrument(source).is_err(), "{source}");
    }
}
