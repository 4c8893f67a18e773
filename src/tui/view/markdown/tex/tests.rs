//! Formulas that have an exact form in Unicode, and those that stay as written.

use super::*;

#[test]
fn formulas_with_an_exact_form_become_unicode() {
    for (formula, wanted) in [
        ("$x$", "x"),
        ("$E = mc^2$", "E = mc²"),
        ("\\(a^2+b^2=c^2\\)", "a²+b² = c²"),
        ("$$\\sum_{i=1}^{n} x_i$$", "∑ᵢ₌₁ⁿ xᵢ"),
        ("\\[\n\\int_0^1 f(x)\\,dx\n\\]", "∫₀¹ f(x) dx"),
        ("$\\frac{1}{2}$", "1/2"),
        ("$\\frac{a+b}{2a}c$", "((a+b)/(2a))c"),
        ("$2\\frac{a}{b}$", "2(a/b)"),
        ("$x = \\frac{-b \\pm \\sqrt{b^2 - 4ac}}{2a}$", "x = (-b ± √(b² - 4ac))/(2a)"),
        ("$\\sqrt{2}x$", "(√2)x"),
        ("$\\sqrt[3]{8} = 2$", "∛8 = 2"),
        ("$\\alpha \\leq \\beta$", "α ≤ β"),
        ("$\\alpha x$", "αx"),
        ("$f\\colon$", ""),
        ("$x \\in \\mathbb{R}^n$", "x ∈ ℝⁿ"),
        ("$O(n \\log n)$", "O(n log n)"),
        ("$\\log_2 n$", "log₂ n"),
        ("$2\\sin x$", "2 sin x"),
        ("$\\sin^2 x + \\cos^2 x = 1$", "sin² x + cos² x = 1"),
        ("$90^\\circ$", "90°"),
        ("$A^{-1}$", "A⁻¹"),
        ("$\\left(1 + x\\right)^n$", "(1 + x)ⁿ"),
        ("$\\hat{y} = \\mathbf{W}x$", "y\u{302} = 𝐖x"),
        ("$x \\text{ if } y > 0$", "x if y > 0"),
        ("$\\{1, 2\\} \\subset \\mathcal{L}$", "{1, 2} ⊂ ℒ"),
        ("$a \\equiv b \\pmod{n}$", "a ≡ b (mod n)"),
        ("$f'(x)$", "f′(x)"),
        ("\\begin{aligned} a &= b \\\\ c &= d \\end{aligned}", "a = b\nc = d"),
        ("$\\not= x$", "≠ x"),
    ] {
        let wanted = Some(wanted.to_owned()).filter(|wanted| !wanted.is_empty());
        assert_eq!(unicode(formula), wanted, "{formula}");
    }
}

#[test]
fn formulas_without_an_exact_form_stay_as_written() {
    for formula in [
        "$x^*$",
        "$x_Q$",
        "$\\lim_{x \\to 0} f(x)$",
        "$\\begin{pmatrix} a & b \\end{pmatrix}$",
        "$\\unknown{x}$",
        "$a & b$",
        "$\\frac{1}$",
        "$\\frac{}{2}$",
        "$x^{2$",
        "$x}$",
        "$",
        "$$",
        "$name$",
        "$HOME$",
        "$e^{i\\pi}$",
        "\\begin{cases} 1 \\end{cases}",
        "$\\vec{AB}$",
        "$\\binom{n}{k}$",
    ] {
        assert_eq!(unicode(formula), None, "{formula}");
    }
    assert_eq!(unicode(&format!("${}x{}$", "{".repeat(50), "}".repeat(50))), None);
}
