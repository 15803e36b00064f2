//! Random templates: some that are mostly good (expressions over the fields of the data "all", blocks, variables, formats), and some
//! of tokens in any order, to see that both sides find the same wrong.

/// A generator of numbers that only needs to be the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }
}

/// `count` templates of a seed.
pub(crate) fn templates(seed: u64, count: usize) -> Vec<String> {
    let mut generator = Generator {
        random: Random(seed),
        variables: Vec::new(),
        in_range: 0,
    };
    (0..count).map(|_| generator.template()).collect()
}

/// `count` rows of tokens of a seed. Few are templates.
pub(crate) fn mashed(seed: u64, count: usize) -> Vec<String> {
    let mut random = Random(seed);
    (0..count)
        .map(|_| {
            let tokens = 1 + random.below(7);
            let mut out = String::from("{{");
            for _ in 0..tokens {
                out.push_str(random.pick(&TOKENS));
                out.push_str(random.pick(&["", " "]));
            }
            if random.below(8) > 0 {
                out.push_str("}}");
            }
            out + random.pick(&["", "", "{{end}}", "{{end}}{{end}}", "x"])
        })
        .collect()
}

const TOKENS: [&str; 56] = [
    "}}",
    "{{",
    "{{",
    "{{- ",
    " -}}",
    "-",
    "}}{{",
    "/*",
    "*/",
    "(",
    ")",
    "|",
    ":=",
    "=",
    ",",
    ".",
    "..",
    "$",
    "$x",
    "$y",
    ".S",
    ".R",
    ".Name",
    ".L",
    "nil",
    "true",
    "1",
    "-1",
    "1.5",
    "0x",
    "1_0",
    "'a'",
    "''",
    "\"a\"",
    "\"",
    "`b`",
    "`",
    "print",
    "len",
    "eq",
    "nope",
    "if",
    "else",
    "end",
    "range",
    "with",
    "define \"d\"",
    "template \"d\"",
    "block \"e\"",
    "break",
    "continue",
    "\n",
    "\t",
    "é",
    "\u{0}",
    "#",
];

struct Generator {
    random: Random,
    variables: Vec<String>,
    in_range: usize,
}

const TEXTS: [&str; 10] = ["a", " ", "\n", " b ", "\n\t", "ü\n", "-", "}", "{", "x y"];
const STRINGS: [&str; 8] = [
    "\"\"",
    "\"a\"",
    "\"é<&>'\\\"\"",
    "`raw`",
    "\"k1\"",
    "\"\\xff\\n\"",
    "\"b c\"",
    "`日本`",
];
const NUMBERS: [&str; 16] = [
    "0",
    "1",
    "2",
    "-1",
    "3",
    "0x1F",
    "'a'",
    "'\\n'",
    "1.5",
    "-0.25",
    "1e6",
    "1e21",
    "123456789.0",
    "1e-5",
    "017",
    "'日'",
];
const STRING_FIELDS: [&str; 6] = [".S", ".Empty", ".U", ".R.Name", ".SM.k1", ".SM.none"];
const NUMBER_FIELDS: [&str; 7] = [".I", ".F", ".Neg", ".Big", ".R.Count", ".IM.one", ".IM.none"];
const LIST_FIELDS: [&str; 4] = [".L", ".LS", ".None", ".LR"];
const OTHER_FIELDS: [&str; 10] = [
    ".", "$", ".R", ".M", ".SM", ".IM", ".N", ".M.nil", ".M.none", ".B",
];
const VERBS: [&str; 20] = [
    "v", "d", "s", "q", "x", "X", "t", "f", "e", "g", "G", "c", "U", "b", "o", "T", "O", "E", "z", "%",
];
const FLAGS: [&str; 20] = [
    "", "", "", "", "", "#", "+", "-", " ", "0", "5", "-8", "08", ".2", "8.3", "+.1", "# ", "-06.2", "#.3",
    ".0",
];

impl Generator {
    fn template(&mut self) -> String {
        self.variables.clear();
        self.in_range = 0;
        let mut out = String::new();
        let defines = self.random.below(8) == 0;
        if defines {
            out.push_str("{{define \"sub\"}}");
            out.push_str(&self.list(1));
            out.push_str("{{end}}");
            self.variables.clear();
        }
        out.push_str(&self.list(2));
        if defines {
            let dot = self.expression(1);
            out = format!("{out}{{{{template \"sub\" {dot}}}}}");
        }
        out
    }

    fn list(&mut self, depth: usize) -> String {
        let scope = self.variables.len();
        let count = 1 + self.random.below(3);
        let out = (0..count).map(|_| self.node(depth)).collect();
        self.variables.truncate(scope);
        out
    }

    fn node(&mut self, depth: usize) -> String {
        match self.random.below(if depth == 0 { 6 } else { 11 }) {
            0 | 1 => TEXTS[self.random.below(TEXTS.len())].to_owned(),
            2..=4 => {
                let pipeline = self.pipeline(2);
                self.action(&pipeline)
            }
            5 => self.variable_or_jump(),
            6 | 7 => {
                let mut out = self.opening("if");
                out.push_str(&self.list(depth - 1));
                if self.random.below(3) == 0 {
                    out.push_str(&self.opening("else if"));
                    out.push_str(&self.list(depth - 1));
                }
                out + &self.otherwise(depth)
            }
            8 => {
                let out = self.opening("with");
                out + &self.list(depth - 1) + &self.otherwise(depth)
            }
            _ => self.range(depth),
        }
    }

    fn opening(&mut self, word: &str) -> String {
        let pipeline = self.pipeline(2);
        self.action(&format!("{word} {pipeline}"))
    }

    fn otherwise(&mut self, depth: usize) -> String {
        let mut out = String::new();
        if self.random.below(2) == 0 {
            out.push_str(&self.action("else"));
            out.push_str(&self.list(depth - 1));
        }
        out + &self.action("end")
    }

    fn range(&mut self, depth: usize) -> String {
        let scope = self.variables.len();
        let over = match self.random.below(4) {
            0 => self.random.pick(&[".M", ".SM", ".IM", ".N"]).to_owned(),
            1 if self.random.below(4) == 0 => self.pipeline(1),
            _ => self.random.pick(&LIST_FIELDS).to_owned(),
        };
        let opening = match self.random.below(3) {
            0 => format!("range {over}"),
            1 => format!("range {} := {over}", self.new_variable()),
            _ => {
                let (index, item) = (self.new_variable(), self.new_variable());
                format!("range {index}, {item} := {over}")
            }
        };
        let mut out = self.action(&opening);
        self.in_range += 1;
        out.push_str(&self.list(depth - 1));
        self.in_range -= 1;
        out.push_str(&self.otherwise(depth));
        self.variables.truncate(scope);
        out
    }

    fn new_variable(&mut self) -> String {
        let name = format!("$v{}", self.random.below(4));
        self.variables.push(name.clone());
        name
    }

    fn variable_or_jump(&mut self) -> String {
        if self.in_range > 0 && self.random.below(3) == 0 {
            let word = self.random.pick(&["break", "continue"]);
            return self.action(word);
        }
        let value = self.pipeline(2);
        if !self.variables.is_empty() && self.random.below(2) == 0 {
            let name = self.variables[self.random.below(self.variables.len())].clone();
            return self.action(&format!("{name} = {value}"));
        }
        let name = self.new_variable();
        self.action(&format!("{name} := {value}"))
    }

    fn action(&mut self, inside: &str) -> String {
        let left = self.random.pick(&["{{", "{{", "{{ ", "{{- "]);
        let right = self.random.pick(&["}}", "}}", " }}", " -}}"]);
        format!("{left}{inside}{right}")
    }

    fn pipeline(&mut self, depth: usize) -> String {
        let mut out = self.command(depth);
        if self.random.below(4) == 0 {
            let to = self.random.pick(&[
                "print",
                "print",
                "not",
                "html",
                "js",
                "urlquery",
                "printf \"%v\"",
                "printf \"%q\"",
                "and .S",
                "or .Empty",
                "println 1",
            ]);
            let risky = self.random.pick(&["len", "eq 1", "index .L", "lt 2", "slice"]);
            let to = if self.random.below(6) == 0 { risky } else { to };
            out.push_str(" | ");
            out.push_str(to);
        }
        out
    }

    /// A function with arguments, or a value.
    fn command(&mut self, depth: usize) -> String {
        let simple = depth.saturating_sub(1);
        match self.random.below(14) {
            0 => format!(
                "{} {} {}",
                self.random.pick(&["and", "or"]),
                self.expression(simple),
                self.expression(simple)
            ),
            1 => format!(
                "{} {}",
                self.random.pick(&["not", "html", "js", "urlquery"]),
                self.expression(simple)
            ),
            2 => {
                let name = self.random.pick(&["eq", "ne", "lt", "le", "gt", "ge"]);
                let (one, two) = match self.random.below(5) {
                    0 if self.random.below(4) == 0 => (self.expression(simple), self.expression(simple)),
                    0..=2 => (self.text(), self.text()),
                    _ => (
                        self.random.pick(&[".I", "1", "'a'", ".Neg"]).to_owned(),
                        self.random.pick(&["42", ".Big", "2", "(len .S)"]).to_owned(),
                    ),
                };
                format!("{name} {one} {two}")
            }
            3 if self.random.below(6) == 0 => {
                format!("index {} {}", self.random.pick(&LIST_FIELDS), self.number())
            }
            3 => format!(
                "index {} {}",
                self.random.pick(&LIST_FIELDS),
                self.random.pick(&["0", "1", "2"])
            ),
            4 if self.random.below(6) == 0 => format!("index .S {}", self.expression(simple)),
            4 => format!(
                "index {} {}",
                self.random.pick(&[".M", ".SM", ".IM"]),
                self.text()
            ),
            5 => {
                let item = if self.random.below(2) == 0 {
                    self.text()
                } else {
                    self.random.pick(&LIST_FIELDS).to_owned()
                };
                let bounds: Vec<&str> = (0..self.random.below(3))
                    .map(|_| self.random.pick(&["0", "1", "2", "3"]))
                    .collect();
                format!("slice {item} {}", bounds.join(" "))
            }
            6 => {
                let name = self.random.pick(&["print", "println"]);
                format!(
                    "{name} {} {} {}",
                    self.expression(simple),
                    self.expression(simple),
                    self.expression(simple)
                )
            }
            7..=9 => self.printf(simple),
            _ => self.expression(simple),
        }
    }

    fn printf(&mut self, depth: usize) -> String {
        let mut format = String::new();
        let mut arguments = String::new();
        for _ in 0..=self.random.below(3) {
            let index = if self.random.below(12) == 0 {
                self.random.pick(&["[1]", "[2]", "[9]", "*", "[1]*"])
            } else {
                ""
            };
            let (flags, verb) = (self.random.pick(&FLAGS), self.random.pick(&VERBS));
            format = format!("{format}%{flags}{index}{verb};");
            if self.random.below(10) > 0 {
                arguments.push(' ');
                arguments.push_str(&self.expression(depth));
            }
        }
        format!("printf \"{format}\"{arguments}")
    }

    fn text(&mut self) -> String {
        if self.random.below(2) == 0 {
            self.random.pick(&STRINGS).to_owned()
        } else {
            self.random.pick(&STRING_FIELDS).to_owned()
        }
    }

    fn number(&mut self) -> String {
        if self.random.below(2) == 0 {
            self.random.pick(&NUMBERS).to_owned()
        } else {
            self.random.pick(&NUMBER_FIELDS).to_owned()
        }
    }

    /// Anything that can be an argument.
    fn expression(&mut self, depth: usize) -> String {
        match self.random.below(if depth == 0 { 8 } else { 12 }) {
            0 => self.random.pick(&OTHER_FIELDS).to_owned(),
            1 | 2 => self.text(),
            3 | 4 => self.number(),
            5 => self.random.pick(&LIST_FIELDS).to_owned(),
            6 if !self.variables.is_empty() => {
                let name = self.variables[self.random.below(self.variables.len())].clone();
                let field = self
                    .random
                    .pick(&["", "", "", "", "", "", "", "", ".Name", ".none"]);
                name + field
            }
            6 => self.random.pick(&["true", "false", "nil"]).to_owned(),
            7 => format!(
                "$.{}",
                self.random.pick(&["S", "I", "F", "R.Name", "M.text", "L"])
            ),
            8 if self.random.below(6) == 0 => format!("({}).Name", self.pipeline(depth - 1)),
            8 => self
                .random
                .pick(&[
                    "(or .N .R).Name",
                    "(index .LR 1).N",
                    "(len .S)",
                    "(len .L)",
                    "(.M).none.x",
                ])
                .to_owned(),
            _ => format!("({})", self.pipeline(depth - 1)),
        }
    }
}
