//! Hostile templates: each ends within a time limit and without crashing the process.

use std::time::Instant;

use super::*;

/// Maximum wall time for a template, all its renders together.
const LIMIT: Duration = Duration::from_secs(5);

/// Renders a template and asserts that it takes less than `LIMIT`.
fn outcome(source: &str) -> Result<String, TemplateError> {
    let render = || {
        let begun = Instant::now();
        let result = template(source).and_then(|template| template.render(&[user("a")], true));
        (result, begun.elapsed())
    };
    let (result, took) = render();
    if took < LIMIT {
        return result;
    }
    // Retry once: the machine may have been busy.
    let (result, again) = render();
    assert!(again < LIMIT, "{}: {took:?} and {again:?}", source.chars().take(200).collect::<String>());
    result
}

/// A chain: `head`, then the repeated `link`, then `foot`. `{}` in a link is replaced by its number.
struct Chain {
    head: &'static str,
    link: &'static str,
    foot: &'static str,
    /// Closes a link; repeated once per link.
    close: &'static str,
    /// Follows `close`.
    tail: &'static str,
    /// The output of 140 links, if it is checked.
    renders: Option<&'static str>,
}

const fn chain(head: &'static str, link: &'static str, foot: &'static str, renders: Option<&'static str>) -> Chain {
    Chain { head, link, foot, close: "", tail: "", renders }
}

const fn nested(link: &'static str, foot: &'static str, close: &'static str) -> Chain {
    Chain { head: "{{ ", link, foot, close, tail: " }}", renders: None }
}

const fn blocks(link: &'static str, close: &'static str) -> Chain {
    Chain { head: "", link, foot: "x", close, tail: "", renders: None }
}

const CHAINS: &[Chain] = &[
    chain("{{ ", "-", "1 }}", Some("1")),
    chain("{{ ", "- ", "x }}", None),
    chain("{{ ", "+", "1 }}", None),
    chain("{{ ", "not ", "x }}", Some("False")),
    chain("{{ 1", "+1", " }}", Some("141")),
    chain("{{ x", "+x", " }}", None),
    chain("{{ 1", "-1", " }}", Some("-139")),
    chain("{{ 1", "//1", " }}", Some("1")),
    chain("{{ 1", "/1", " }}", Some("1.0")),
    chain("{{ 1", "%2", " }}", None),
    chain("{{ x", "*1", " }}", None),
    chain("{{ 1", "**1", " }}", Some("1")),
    chain("{{ x", ".b", " }}", None),
    chain("{{ x", ".0", " }}", None),
    chain("{{ ''", "~''", " }}", Some("")),
    chain("{{ x", "~x", " }}", None),
    chain("{{ 1", " and 1", " }}", Some("1")),
    chain("{{ 0", " or 0", " }}", Some("0")),
    chain("{{ x", " and x", " }}", None),
    chain("{{ 'a'", "|trim", " }}", Some("a")),
    chain("{{ x", "|default('')", " }}", Some("")),
    chain("{{ x", "[0]", " }}", None),
    chain("{{ ''", "[:]", " }}", Some("")),
    chain("{{ x", "[::2]", " }}", None),
    chain("{{ x", "()", " }}", None),
    chain("{{ ''", ".strip()", " }}", Some("")),
    chain("{{ x", "(x)", " }}", None),
    chain("{{ x", " is defined", " }}", None),
    chain("{{ x", " is not defined", " }}", None),
    chain("{{ 1", " == 1", " }}", Some("True")),
    chain("{{ 1", " < 1", " }}", Some("False")),
    chain("{{ 1", " in [1]", " }}", None),
    chain("{{ ''", " not in ''", " }}", None),
    chain("{{ 1", " if 1", " }}", Some("1")),
    chain("{{ ", "1 if 0 else ", "2 }}", Some("2")),
    chain("{{ ", "1 if 1 else ", "2 }}", Some("1")),
    chain("{{ 'a'", " 'a'", " }}", None),
    chain("{{ [0", ",0", "]|length }}", Some("141")),
    chain("{{ x", "", " }}", Some("")),
    chain("{% if 0 %}", "{% elif 0 %}", "{% else %}e{% endif %}", Some("e")),
    chain("{% if 0 %}", "{% elif x %}{% if 0 %}{% endif %}", "{% endif %}", Some("")),
    chain("{% filter ", "trim|", "trim %} a {% endfilter %}", Some("a")),
    chain("{% set x", ".b", " = 1 %}", None),
    chain("{% set x = x", " ~ x", " %}", Some("")),
    chain("{% set x = 1", ", 1", " %}{{ x|length }}", Some("141")),
    chain("{% set x | ", "trim|", "trim %}a{% endset %}{{ x }}", Some("a")),
    chain("{% for x in [1", "] + [1", "] %}{{ x }}{% endfor %}", None),
    chain("{% for x", ", x{}", " in [] %}{% endfor %}", Some("")),
    chain("{% with x = x", " ~ x", " %}{% endwith %}", Some("")),
    chain("{% macro m(a, b=1", "+1", ") %}{{ b }}{% endmacro %}{{ m(1) }}", Some("141")),
    chain("{% macro m() %}{% endmacro %}{% call m", "()", "() %}{% endcall %}", None),
    chain("{% do x", ".f()", " %}", None),
    chain("{% autoescape ", "not ", "true %}{% endautoescape %}", Some("")),
    nested("(", "1", ")"),
    nested("[", "", "]"),
    nested("{1:", "1", "}"),
    nested("{(1,):", "1", "}"),
    nested("x[", "x", "]"),
    nested("x(", "x", ")"),
    nested("x|default(", "x", ")"),
    nested("-(", "1", ")"),
    nested("(1,", "", ")"),
    nested("x.f(", "", ")"),
    nested("dict(x=", "", ")"),
    Chain { head: "{% for ", link: "(", foot: "x", close: ")", tail: " in [] %}{% endfor %}", renders: None },
    Chain { head: "{% set ", link: "(", foot: "x", close: ")", tail: " = 1 %}", renders: None },
    blocks("{% if 1 %}", "{% endif %}"),
    blocks("{% if 0 %}{% else %}", "{% endif %}"),
    blocks("{% if 0 %}{% elif 1 %}", "{% endif %}"),
    blocks("{% for x in [1] %}", "{% endfor %}"),
    blocks("{% for x in [] %}{% else %}", "{% endfor %}"),
    blocks("{% set x %}", "{% endset %}"),
    blocks("{% with %}", "{% endwith %}"),
    blocks("{% filter trim %}", "{% endfilter %}"),
    blocks("{% macro m{}() %}", "{% endmacro %}"),
    blocks("{% call x() %}", "{% endcall %}"),
    blocks("{% block b{} %}", "{% endblock %}"),
    blocks("{% autoescape false %}", "{% endautoescape %}"),
    blocks("{% generation %}", "{% endgeneration %}"),
];

impl Chain {
    fn of(&self, links: usize) -> String {
        let links_of =
            |link: &str| (0..links).map(|number| link.replace("{}", &number.to_string())).collect::<String>();
        [self.head, &links_of(self.link), self.foot, &self.close.repeat(links), self.tail].concat()
    }
}

#[test]
fn long_operator_chains_do_not_overflow_the_stack() {
    for chain in CHAINS {
        for links in [140, depth::MAX_BRANCHES - 2, depth::MAX_LINKS / 3 - 5, depth::MAX_LINKS - 10, 20_000, 150_000] {
            let source = chain.of(links);
            let result = outcome(&source);
            if let Some(expected) = chain.renders.filter(|_| links == 140) {
                assert_eq!(result.as_deref(), Ok(expected), "{source}");
            }
        }
    }
}

#[test]
fn hostile_templates_fail_within_the_time_limit() {
    for source in [
        "{% for i in range(1000000000) %}x{% endfor %}",
        "{% for i in range(99999) %}{% for j in range(99999) %}{% set k = i * j %}{% endfor %}{% endfor %}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% macro f(n) %}{{ f(n + 1) }}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
        "{% for i in range(9999) %}{{ 'x' * 1000000 }}{% endfor %}",
        "{{ 'x' * 10000000000 }}",
        "{{ messages[0].content.nosuch.thing }}",
        "{{ messages | tojson(indent='a', separators=3) }}",
        // Each of these doubles a value, or writes a page, in a single step.
        "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
        "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
        "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = '%s%s' | format(ns.s, ns.s) %}{% endfor %}",
        "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = [ns.s, ns.s] | join %}{% endfor %}",
        "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = ''.join([ns.s, ns.s]) %}{% endfor %}",
        "{% set ns = namespace(s='xx') %}{% for i in range(60) %}{% set ns.s = ns.s.replace('x', ns.s) %}{% endfor %}",
        "{% set ns = namespace(s='xx') %}{% for i in range(60) %}{% set ns.s = ns.s | replace('x', ns.s) %}{% endfor %}",
        "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set s %}{{ ns.s }}{{ ns.s }}{% endset %}{% set ns.s = s %}{% endfor %}",
        "{% macro f(s, n) %}{% if n %}{{ f(s ~ s, n - 1) }}{% endif %}{{ s ~ s }}{% endmacro %}{% set x = f('xxxxxxxxxxxxxxxxxxxxxxxxxxx', 28) %}{% set y = f(x, 28) %}",
        "{% macro f(s) %}{{ s }}{{ s }}{% endmacro %}{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = f(ns.s) %}{% endfor %}",
        "{% set ns = namespace(l=[1]) %}{% for i in range(60) %}{% set ns.l = ns.l + ns.l %}{% endfor %}{{ ns.l | length }}",
        "{% set ns = namespace(l=[1]) %}{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}",
        "{% set ns = namespace(l=[1]) %}{% for i in range(60) %}{% set ns.l = ns.l | chain(ns.l) %}{% endfor %}{{ ns.l | list | length }}",
        "{% set ns = namespace(l=[]) %}{% set s = 'x' * 90000 %}{% for i in range(99999) %}{% set ns.l = ns.l + [s[1:] ~ i] %}{% endfor %}",
        "{% set ns = namespace(l=[]) %}{% set s = 'x' * 90000 %}{% for i in range(99999) %}{% set ns.l = ns.l + [s | upper] %}{% endfor %}",
        "{% set s %}{% for i in range(99999) %}{% for j in range(99) %}a page of text, a page of text, a page of text, a page of text, a page of text, a page of text{% endfor %}{% endfor %}{% endset %}",
        "{% set s %}{% for i in range(99999) %}{% for j in range(99) %}{{ 'a page of text, a page of text, a page of text, a page of text, a page of text, a page of text' }}{% endfor %}{% endfor %}{% endset %}",
        "{% set s = 'x' * 90000 %}{% set ns = namespace(l=[]) %}{% for i in range(99999) %}{% for j in range(99) %}{% if s ~ i == s ~ j %}{% endif %}{% endfor %}{% endfor %}",
        "{{ (1,) * 100000000 }}",
        "{% set n = 100000000 %}{{ 'x' * n }}",
        "{{ ('x' * 90000) * 90000 }}",
        "{{ '%1000000000d' | format(1) }}{{ '{:>1000000000}'.format(1) }}",
        "{{ 'x'.center(1000000000) }}",
        "{{ 'x' | indent(1000000000, true) }}",
        "{{ [1] | batch(1000000000, 'x') | list }}",
        "{{ [1] | slice(1000000000) | list | length }}",
        "{% set chatnap_limits = 1 %}",
        // Values that contain themselves.
        "{% set ns = namespace() %}{% set ns.self = ns %}{{ ns }}",
        "{% set ns = namespace(l=[]) %}{% set ns.l = [ns] %}{{ ns.l ~ '' }}",
        "{% import 'x' as y | z %}",
    ] {
        assert!(outcome(source).is_err(), "{source}");
    }
}

#[test]
fn deeply_nested_values_do_not_overflow_the_stack() {
    let inside = [
        "[ns.l]",
        "(ns.l,)",
        "{'a': ns.l}",
        "{(ns.l,): 1}",
        "dict(a=ns.l)",
        "namespace(a=ns.l)",
        "ns.l | reverse",
        "[ns.l] | map('reverse') | list",
        "ns.l * 1",
        "1 * ns.l",
        "ns.l[0:]",
        "ns.l[::1]",
        "ns.l[::-1]",
        "ns.l + []",
        "[] + ns.l",
        "ns.l + ns.l",
        "ns.l | list",
        "ns.l | batch(1) | list",
        "ns.l | slice(1) | list",
        "ns.l | chain([1])",
        "[ns.l] | map('chain', [1]) | list",
        "ns.l | zip",
        "[ns.l] | map('list') | list",
        "ns.l | map('string')",
        "ns.l | select | list",
        "ns.l | unique | list",
        "ns.l | sort",
        "ns.l | items",
        "{'a': ns.l} | items",
        "{'a': ns.l} | dictsort",
        "{'a': ns.l}.items()",
        "{'a': ns.l}.values()",
        "[[ns.l, 1]] | groupby(0)",
        "[{'a': ns.l}] | map(attribute='a') | list",
        "cycler(ns.l)",
        "joiner(ns.l)",
        "[ns.l] | first | reverse",
        "ns.l | tojson",
        "ns.l | pprint",
        "ns.l ~ ''",
        "'%s' % ns.l",
        "'%r' | format(ns.l)",
        "'{}'.format(ns.l)",
        "ns.l | string",
        "ns.l | last",
        "[ns.l, ns.l] | join",
        "[ns.l].copy()",
    ];
    for expression in inside {
        let source = format!(
            "{{% set ns = namespace(l=[0]) %}}{{% for i in range(12000) %}}{{% set ns.l = {expression} %}}{{% endfor %}}{{{{ ns.l | tojson }}}}"
        );
        let _ = outcome(&source);
    }
}

#[test]
fn recursion_is_an_error() {
    for source in [
        "{% macro f(x) %}{{ f([x]) }}{% endmacro %}{{ f(1) }}",
        "{% macro f() %}{{ f(caller) }}{% endmacro %}{% call f() %}{{ f() }}{% endcall %}",
        "{% macro f(g) %}{{ g(g) }}{% endmacro %}{{ f(f) }}",
        "{% macro f() %}{% call g() %}{{ f() }}{% endcall %}{% endmacro %}{% macro g() %}{{ caller() }}{% endmacro %}{{ f() }}",
        "{% for i in [1] recursive %}{{ loop([i]) }}{% endfor %}",
        "{% for i in [1] recursive %}{{ loop([[i]]) }}{% endfor %}",
        "{% block a %}{{ self.a() }}{% endblock %}",
        "{% set l = [1] %}{% for i in range(6) %}{% set l = [l, l] %}{% endfor %}{{ l[0][self] }}{{ self.a() }}",
        "{% include 'chat' %}",
        "{% extends 'chat' %}",
    ] {
        let result = outcome(source);
        assert!(result.is_err(), "{source}: {result:?}");
    }
}

/// A list of twice the same list of twice the same list …: small in memory, exponentially large when traversed.
fn doubled(times: usize, end: &str) -> String {
    format!("{{% set l = [0] %}}{}{end}", "{% set l = [l, l] %}".repeat(times))
}

#[test]
fn exponentially_large_shared_values_are_bounded() {
    for end in [
        "{{ l }}",
        "{{ l ~ l }}",
        "{{ l | tojson }}",
        "{{ l | tojson(indent=32) }}",
        "{{ l | pprint }}",
        "{{ l | string }}",
        "{{ [l, l] | join }}",
        "{{ '%s' % l }}",
        "{{ '%s' | format(l) }}",
        "{{ '{}'.format(l) }}",
        "{{ l in [l] }}",
        "{{ [l, l, l, l] | tojson(indent=32) }}",
        "{{ {l: l} }}",
        "{{ [l, l] | sort }}",
        "{{ [l, l] | unique | list }}",
        "{% if l == l %}{% endif %}",
    ] {
        let _ = outcome(&doubled(17, end));
    }
    assert!(outcome(&doubled(60, "")).is_err());
    // At this depth the indentation is much larger than the items.
    for end in ["{{ l | tojson(indent=32) }}", "{{ l | pprint }}"] {
        let deep = format!("{}{}", "{% set l = [l] %}".repeat(40), end.repeat(8));
        assert!(outcome(&doubled(17, &deep)).is_err(), "{end}");
    }
}
