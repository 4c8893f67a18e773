//! TeX's names of signs, and the letters that have a raised, lowered, bold or double-struck form.

/// Signs that stand between two spaces.
pub(super) fn relation(name: &str) -> Option<&'static str> {
    Some(match name {
        "le" | "leq" | "leqslant" => "≤",
        "ge" | "geq" | "geqslant" => "≥",
        "ne" | "neq" => "≠",
        "approx" => "≈",
        "equiv" => "≡",
        "sim" => "∼",
        "simeq" => "≃",
        "cong" => "≅",
        "propto" => "∝",
        "ll" => "≪",
        "gg" => "≫",
        "in" => "∈",
        "notin" => "∉",
        "ni" => "∋",
        "subset" => "⊂",
        "subseteq" => "⊆",
        "supset" => "⊃",
        "supseteq" => "⊇",
        "subsetneq" => "⊊",
        "cup" => "∪",
        "cap" => "∩",
        "setminus" => "∖",
        "to" | "rightarrow" => "→",
        "longrightarrow" => "⟶",
        "leftarrow" | "gets" => "←",
        "leftrightarrow" => "↔",
        "Rightarrow" => "⇒",
        "implies" | "Longrightarrow" => "⟹",
        "Leftarrow" => "⇐",
        "Leftrightarrow" => "⇔",
        "iff" | "Longleftrightarrow" => "⟺",
        "mapsto" => "↦",
        "times" => "×",
        "cdot" => "·",
        "div" => "÷",
        "pm" => "±",
        "mp" => "∓",
        "ast" => "∗",
        "star" => "⋆",
        "circ" => "∘",
        "oplus" => "⊕",
        "otimes" => "⊗",
        "odot" => "⊙",
        "wedge" | "land" => "∧",
        "vee" | "lor" => "∨",
        "mid" => "∣",
        "parallel" => "∥",
        "perp" => "⊥",
        "models" => "⊨",
        "vdash" => "⊢",
        "prec" => "≺",
        "succ" => "≻",
        "lt" => "<",
        "gt" => ">",
        "coloneqq" => "≔",
        _ => return None,
    })
}

/// Large operators, which take limits.
pub(super) fn large(name: &str) -> Option<&'static str> {
    Some(match name {
        "sum" => "∑",
        "prod" => "∏",
        "int" => "∫",
        "iint" => "∬",
        "oint" => "∮",
        "bigcup" => "⋃",
        "bigcap" => "⋂",
        _ => return None,
    })
}

/// Functions that are written upright by their name.
pub(super) fn function(name: &str) -> bool {
    const NAMES: &[&str] = &[
        "sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh", "log", "ln",
        "lg", "exp", "lim", "limsup", "liminf", "max", "min", "sup", "inf", "det", "dim", "ker", "gcd", "deg", "arg",
        "Pr", "hom",
    ];
    NAMES.contains(&name)
}

/// Letters and other signs.
pub(super) fn sign(name: &str) -> Option<&'static str> {
    Some(match name {
        "alpha" => "α",
        "beta" => "β",
        "gamma" => "γ",
        "delta" => "δ",
        "epsilon" => "ϵ",
        "varepsilon" => "ε",
        "zeta" => "ζ",
        "eta" => "η",
        "theta" => "θ",
        "vartheta" => "ϑ",
        "iota" => "ι",
        "kappa" => "κ",
        "lambda" => "λ",
        "mu" => "μ",
        "nu" => "ν",
        "xi" => "ξ",
        "omicron" => "ο",
        "pi" => "π",
        "varpi" => "ϖ",
        "rho" => "ρ",
        "varrho" => "ϱ",
        "sigma" => "σ",
        "varsigma" => "ς",
        "tau" => "τ",
        "upsilon" => "υ",
        "phi" => "ϕ",
        "varphi" => "φ",
        "chi" => "χ",
        "psi" => "ψ",
        "omega" => "ω",
        "Gamma" => "Γ",
        "Delta" => "Δ",
        "Theta" => "Θ",
        "Lambda" => "Λ",
        "Xi" => "Ξ",
        "Pi" => "Π",
        "Sigma" => "Σ",
        "Upsilon" => "Υ",
        "Phi" => "Φ",
        "Psi" => "Ψ",
        "Omega" => "Ω",
        "infty" => "∞",
        "partial" => "∂",
        "nabla" => "∇",
        "forall" => "∀",
        "exists" => "∃",
        "nexists" => "∄",
        "neg" | "lnot" => "¬",
        "emptyset" | "varnothing" => "∅",
        "hbar" => "ℏ",
        "ell" => "ℓ",
        "Re" => "ℜ",
        "Im" => "ℑ",
        "aleph" => "ℵ",
        "angle" => "∠",
        "triangle" => "△",
        "degree" => "°",
        "prime" => "′",
        "top" => "⊤",
        "bot" => "⊥",
        "dots" | "ldots" => "…",
        "cdots" => "⋯",
        "vdots" => "⋮",
        "ddots" => "⋱",
        "therefore" => "∴",
        "because" => "∵",
        "dagger" => "†",
        "langle" => "⟨",
        "rangle" => "⟩",
        "lfloor" => "⌊",
        "rfloor" => "⌋",
        "lceil" => "⌈",
        "rceil" => "⌉",
        "{" | "lbrace" => "{",
        "}" | "rbrace" => "}",
        "|" | "Vert" | "lVert" | "rVert" => "‖",
        "vert" | "lvert" | "rvert" => "|",
        "%" => "%",
        "$" => "$",
        "#" => "#",
        "&" => "&",
        "_" => "_",
        "checkmark" => "✓",
        "blacksquare" => "■",
        "square" | "Box" => "□",
        _ => return None,
    })
}

/// A combining mark over one letter.
pub(super) fn accent(name: &str) -> Option<char> {
    Some(match name {
        "hat" | "widehat" => '\u{302}',
        "bar" | "overline" => '\u{304}',
        "tilde" | "widetilde" => '\u{303}',
        "dot" => '\u{307}',
        "ddot" => '\u{308}',
        "vec" => '\u{20d7}',
        _ => return None,
    })
}

type Letters = fn(char) -> Option<char>;

/// The letters of a font command.
pub(super) fn font(name: &str) -> Option<Letters> {
    Some(match name {
        "mathbb" => double_struck,
        "mathbf" | "boldsymbol" | "bm" => bold,
        "mathcal" | "mathscr" => script,
        "mathfrak" => fraktur,
        _ => return None,
    })
}

/// The letter at the place of `c` in a block of capital and small letters that begins at `capital`.
fn placed(c: char, capital: u32) -> Option<char> {
    match c {
        'A'..='Z' => char::from_u32(capital + (c as u32 - 'A' as u32)),
        'a'..='z' => char::from_u32(capital + 26 + (c as u32 - 'a' as u32)),
        _ => None,
    }
}

fn double_struck(c: char) -> Option<char> {
    match c {
        'C' => Some('ℂ'),
        'H' => Some('ℍ'),
        'N' => Some('ℕ'),
        'P' => Some('ℙ'),
        'Q' => Some('ℚ'),
        'R' => Some('ℝ'),
        'Z' => Some('ℤ'),
        '1' => Some('𝟙'),
        _ => placed(c, 0x1d538),
    }
}

fn bold(c: char) -> Option<char> {
    match c {
        '0'..='9' => char::from_u32(0x1d7ce + (c as u32 - '0' as u32)),
        'α'..='ω' => char::from_u32(0x1d6c2 + (c as u32 - 'α' as u32)),
        'Α'..='Ω' => char::from_u32(0x1d6a8 + (c as u32 - 'Α' as u32)),
        _ => placed(c, 0x1d400),
    }
}

fn script(c: char) -> Option<char> {
    match c {
        'B' => Some('ℬ'),
        'E' => Some('ℰ'),
        'F' => Some('ℱ'),
        'H' => Some('ℋ'),
        'I' => Some('ℐ'),
        'L' => Some('ℒ'),
        'M' => Some('ℳ'),
        'R' => Some('ℛ'),
        'A'..='Z' => placed(c, 0x1d49c),
        _ => None,
    }
}

fn fraktur(c: char) -> Option<char> {
    match c {
        'C' => Some('ℭ'),
        'H' => Some('ℌ'),
        'I' => Some('ℑ'),
        'R' => Some('ℜ'),
        'Z' => Some('ℨ'),
        _ => placed(c, 0x1d504),
    }
}

const RAISED: (&str, &str) = (
    "0123456789+-=()abcdefghijklmnoprstuvwxyzABDEGHIJKLMNOPRTUVW∘°′⊤'βγδθϕφχ",
    "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖʳˢᵗᵘᵛʷˣʸᶻᴬᴮᴰᴱᴳᴴᴵᴶᴷᴸᴹᴺᴼᴾᴿᵀᵁⱽᵂ°°′ᵀ′ᵝᵞᵟᶿᵠᵠᵡ",
);

const LOWERED: (&str, &str) = ("0123456789+-=()aehijklmnoprstuvxβγρϕφχ", "₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎ₐₑₕᵢⱼₖₗₘₙₒₚᵣₛₜᵤᵥₓᵦᵧᵨᵩᵩᵪ");

fn form(c: char, (plain, forms): (&str, &str)) -> Option<char> {
    plain.chars().zip(forms.chars()).find(|(plain, _)| *plain == c).map(|(_, form)| form)
}

pub(super) fn superscript(c: char) -> Option<char> {
    form(c, RAISED)
}

pub(super) fn subscript(c: char) -> Option<char> {
    form(c, LOWERED)
}

pub(super) fn is_superscript(c: char) -> bool {
    RAISED.1.contains(c)
}

pub(super) fn is_subscript(c: char) -> bool {
    LOWERED.1.contains(c)
}
