//! Finds the steps of the protocols in a source file: each fence, ordering, notify, wake, and wait in a loop.
//!
//! The source is parsed, not searched, so that patterns, imports, tests and what the models leave out are not taken for
//! steps; the edits are insertions at the byte offsets of the tokens, so the rest stays byte for byte, and on its line.

use std::collections::HashMap;
use std::ops::Range;

use proc_macro2::Span;
use syn::parse::Parser;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, Block, Expr, ExprCall, ExprMethodCall, ExprPath, Macro, Pat, Stmt, Token};

use crate::attributes::{Attributed, is_absent};
use crate::edits::{Edits, Mutant, Skipped, WhileParts};
use crate::steps::{Access, Returns, Strength, access, returns, weaker};
use crate::waits::waits_in;

/// What a file holds.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    pub(crate) mutants: Vec<Mutant>,
    /// What looks like a step, and could not be made a mutant of.
    pub(crate) skipped: Vec<Skipped>,
    /// The source, in which each step asks whether it is to be taken.
    pub(crate) instrumented: String,
}

/// The mutants of `source`, numbered from `first` on.
pub(crate) fn scan(file: &str, source: &str, first: usize) -> syn::Result<Scan> {
    let syntax = syn::parse_file(source)?;
    let mut scanner = Scanner {
        edits: Edits::new(file, source, first),
        path: Vec::new(),
        counts: HashMap::new(),
        role: None,
        constant: false,
        discarded: None,
    };
    scanner.visit_file(&syntax);
    Ok(scanner.edits.finish())
}

/// A call of a function or a method that has a name.
struct Call<'a> {
    whole: &'a Expr,
    name: String,
    name_span: Span,
    arguments: &'a Punctuated<Expr, Token![,]>,
}

struct Scanner<'s> {
    edits: Edits<'s>,
    /// Modules, implemented type, functions.
    path: Vec<String>,
    /// How often each name was called in each function so far.
    counts: HashMap<(String, String), usize>,
    /// What an ordering that stands here is of: the access, and its step.
    role: Option<(Access, String)>,
    /// In a constant, where nothing can be asked at run time.
    constant: bool,
    /// Where the call begins whose value nobody uses.
    discarded: Option<usize>,
}

fn range(of: &impl Spanned) -> Range<usize> {
    of.span().byte_range()
}

impl Scanner<'_> {
    fn within(&mut self, name: String, walk: impl FnOnce(&mut Self)) {
        self.path.push(name);
        walk(self);
        self.path.pop();
    }

    fn in_constant(&mut self, constant: bool, walk: impl FnOnce(&mut Self)) {
        let before = self.constant;
        self.constant |= constant;
        walk(self);
        self.constant = before;
    }

    fn as_role(&mut self, role: Option<(Access, String)>, walk: impl FnOnce(&mut Self)) {
        let before = std::mem::replace(&mut self.role, role);
        walk(self);
        self.role = before;
    }

    /// `name #2`, if this is the second in its function.
    fn numbered(&mut self, name: &str) -> String {
        let count = self
            .counts
            .entry((self.path.join("::"), name.to_owned()))
            .or_default();
        *count += 1;
        format!("{name} #{count}")
    }

    /// Whether a mutant can stand here; notes it if not.
    fn can_ask(&mut self, span: Span, step: &str) -> bool {
        if self.constant {
            self.edits.skip(span, step, "in a constant");
        }
        !self.constant
    }

    /// A call that is to be left out.
    fn deletion(&mut self, call: &Call<'_>, step: &str, returns: Returns) {
        if !self.can_ask(call.whole.span(), step) {
            return;
        }
        let whole = range(call.whole);
        let unused = self.discarded == Some(whole.start);
        let (open, close, instead) = match returns {
            _ if unused => ("{ if @keeps(#) { ", "; } }".to_owned(), "()"),
            Returns::Nothing => ("{ if @keeps(#) { ", " } }".to_owned(), "()"),
            Returns::Bool => ("(@keeps(#) && ", ")".to_owned(), "false"),
            Returns::Argument(at) => {
                let Some(argument) = call.arguments.get(at) else {
                    let why =
                        "its value is used, and it lacks the argument that could stand for it";
                    return self.edits.skip(call.whole.span(), step, why);
                };
                let value = self.edits.text(range(argument));
                (
                    "{ if @keeps(#) { ",
                    format!(" }} else {{ {value} }} }}"),
                    value,
                )
            }
        };
        self.edits
            .wrap(&self.path, &format!("{step} deleted"), &whole, open, &close)
            .shown(&whole, instead);
    }

    /// Wakes one, who was to wake all.
    fn notify_one(&mut self, call: &Call<'_>, step: &str) {
        if !self.can_ask(call.whole.span(), step) {
            return;
        }
        let (whole, word) = (range(call.whole), call.name_span.byte_range());
        let before = self.edits.text(whole.start..word.start);
        let after = self.edits.text(word.end..whole.end);
        let open = format!("{{ if @is(#) {{ {before}notify_one{after} }} else {{ ");
        let what = format!("{step} ->notify_one");
        self.edits
            .wrap(&self.path, &what, &whole, &open, " } }")
            .shown(&word, "notify_one");
    }

    /// Takes note of a call; if it is a step, by which name.
    fn call(&mut self, call: &Call<'_>) -> Option<String> {
        let wakes = returns(&call.name);
        let is_fence = call.name == "fence";
        if access(&call.name).is_none() && wakes.is_none() && !is_fence {
            return None;
        }
        let step = self.numbered(&call.name);
        if let Some(returns) = wakes.or(is_fence.then_some(Returns::Nothing)) {
            self.deletion(call, &step, returns);
        }
        if call.name == "notify_all" {
            self.notify_one(call, &step);
        }
        Some(step)
    }

    fn ordering(&mut self, path: &ExprPath, strength: Strength) {
        let role = self.role.clone();
        let (access, step) = role.unwrap_or_else(|| (Access::Unknown, self.numbered("ordering")));
        let weaker = weaker(access, strength);
        if weaker.is_empty() {
            if access == Access::Unknown && strength == Strength::SeqCst {
                let why = "of what kind of access is not to be seen";
                self.edits.skip(path.span(), &step, why);
            }
            return;
        }
        if !self.can_ask(path.span(), &step) {
            return;
        }
        let word = path.path.segments.last().map_or(path.span(), Spanned::span);
        for weaker in weaker {
            let what = format!("{step}{} {strength}->{weaker}", access.part());
            let close = format!(", crate::sync::atomic::Ordering::{weaker})");
            self.edits
                .wrap(&self.path, &what, &range(path), "@order(#, ", &close)
                .shown(&word.byte_range(), &weaker.to_string());
        }
    }

    /// Visits a call's arguments, of which some may be orderings.
    fn arguments(&mut self, call: &Call<'_>, step: Option<String>) {
        let accesses = access(&call.name).unwrap_or_default();
        for (at, argument) in call.arguments.iter().enumerate() {
            let role = accesses.get(at).copied().flatten().zip(step.clone());
            self.as_role(role, |scanner| scanner.visit_expr(argument));
        }
    }

    /// A macro's arguments, if they are expressions or statements, as those of the assertions are.
    fn macro_arguments(&mut self, made: &Macro) {
        let expressions = Punctuated::<Expr, Token![,]>::parse_terminated;
        if let Ok(arguments) = expressions.parse2(made.tokens.clone()) {
            for argument in &arguments {
                self.as_role(None, |scanner| scanner.visit_expr(argument));
            }
        } else if let Ok(statements) = Block::parse_within.parse2(made.tokens.clone()) {
            for statement in &statements {
                self.visit_stmt(statement);
            }
        } else if let Some(word) = crate::steps::mentions(&made.tokens.to_string()) {
            let why = "in a macro whose arguments are neither expressions nor statements";
            self.edits.skip(made.span(), word, why);
        }
    }
}

/// Whether this asks for a hand-made mutant: its branch is not the library's.
fn is_hand_made(condition: &Expr) -> bool {
    let Expr::Call(call) = condition else {
        return false;
    };
    matches!(&*call.func, Expr::Path(path) if path.path.is_ident("mutant"))
}

/// An ordering, by itself or behind `Ordering::`.
fn strength(path: &ExprPath) -> Option<Strength> {
    let mut segments = path.path.segments.iter().rev();
    let strength = segments.next()?.ident.to_string().parse().ok()?;
    let behind = segments.next().is_none_or(|of| of.ident == "Ordering");
    behind.then_some(strength)
}

fn type_name(of: &syn::Type) -> String {
    match of {
        syn::Type::Path(path) => match path.path.segments.last() {
            Some(segment) => segment.ident.to_string(),
            None => "_".to_owned(),
        },
        syn::Type::Reference(reference) => type_name(&reference.elem),
        _ => "_".to_owned(),
    }
}

fn unless_absent<N: Attributed>(node: &N, walk: impl FnOnce()) {
    if !is_absent(node.attributes()) {
        walk();
    }
}

impl<'ast> Visit<'ast> for Scanner<'_> {
    fn visit_attribute(&mut self, _: &'ast Attribute) {}

    fn visit_pat(&mut self, _: &'ast Pat) {}

    fn visit_item(&mut self, item: &'ast syn::Item) {
        let constant = matches!(item, syn::Item::Const(_) | syn::Item::Static(_));
        unless_absent(item, || {
            self.in_constant(constant, |scanner| visit::visit_item(scanner, item));
        });
    }

    fn visit_item_use(&mut self, _: &'ast syn::ItemUse) {}

    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        self.within(module.ident.to_string(), |scanner| {
            visit::visit_item_mod(scanner, module);
        });
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        self.within(type_name(&item.self_ty), |scanner| {
            visit::visit_item_impl(scanner, item);
        });
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.within(item.ident.to_string(), |scanner| {
            visit::visit_item_trait(scanner, item);
        });
    }

    fn visit_item_macro(&mut self, item: &'ast syn::ItemMacro) {
        if item.ident.is_none() {
            self.macro_arguments(&item.mac);
        } else if let Some(word) = crate::steps::mentions(&item.mac.tokens.to_string()) {
            self.edits
                .skip(item.span(), word, "in a macro's definition");
        }
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.within(item.sig.ident.to_string(), |scanner| {
            scanner.in_constant(item.sig.constness.is_some(), |scanner| {
                visit::visit_item_fn(scanner, item);
            });
        });
    }

    fn visit_impl_item(&mut self, item: &'ast syn::ImplItem) {
        let constant = matches!(item, syn::ImplItem::Const(_));
        unless_absent(item, || {
            self.in_constant(constant, |scanner| visit::visit_impl_item(scanner, item));
        });
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.within(item.sig.ident.to_string(), |scanner| {
            scanner.in_constant(item.sig.constness.is_some(), |scanner| {
                visit::visit_impl_item_fn(scanner, item);
            });
        });
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if !is_absent(&item.attrs) {
            self.within(item.sig.ident.to_string(), |scanner| {
                visit::visit_trait_item_fn(scanner, item);
            });
        }
    }

    fn visit_expr_const(&mut self, block: &'ast syn::ExprConst) {
        self.in_constant(true, |scanner| visit::visit_expr_const(scanner, block));
    }

    fn visit_stmt(&mut self, statement: &'ast Stmt) {
        let unused = match statement {
            Stmt::Expr(value, Some(_)) => Some(value),
            Stmt::Local(local) if matches!(local.pat, Pat::Wild(_)) => {
                local.init.as_ref().map(|init| &*init.expr)
            }
            _ => None,
        };
        unless_absent(statement, || {
            if let Some(Expr::Call(_) | Expr::MethodCall(_)) = unused {
                self.discarded = unused.map(|value| range(value).start);
            }
            visit::visit_stmt(self, statement);
        });
    }

    fn visit_arm(&mut self, arm: &'ast syn::Arm) {
        if !is_absent(&arm.attrs) {
            visit::visit_arm(self, arm);
        }
    }

    fn visit_expr(&mut self, value: &'ast Expr) {
        if is_absent(value.attributes()) {
            return;
        }
        match value {
            Expr::MethodCall(call) => self.method_call(value, call),
            Expr::Call(call) => self.function_call(value, call),
            _ => visit::visit_expr(self, value),
        }
    }

    fn visit_expr_if(&mut self, branch: &'ast syn::ExprIf) {
        if !is_hand_made(&branch.cond) {
            return visit::visit_expr_if(self, branch);
        }
        if let Some((_, otherwise)) = &branch.else_branch {
            self.visit_expr(otherwise);
        }
    }

    fn visit_expr_path(&mut self, path: &'ast ExprPath) {
        if let Some(strength) = strength(path) {
            self.ordering(path, strength);
        }
    }

    fn visit_macro(&mut self, made: &'ast Macro) {
        self.macro_arguments(made);
    }

    fn visit_expr_while(&mut self, round: &'ast syn::ExprWhile) {
        if waits_in(&round.body) {
            let step = self.numbered("while");
            if self.can_ask(round.while_token.span, &step) {
                self.edits.once(
                    &self.path,
                    &format!("{step} ->if"),
                    &WhileParts {
                        whole: range(round),
                        word: round.while_token.span.byte_range(),
                        body: round.body.brace_token.span.open().byte_range().end,
                    },
                );
            }
        }
        visit::visit_expr_while(self, round);
    }

    fn visit_expr_loop(&mut self, round: &'ast syn::ExprLoop) {
        if waits_in(&round.body) {
            let step = self.numbered("loop");
            let why = "a `loop` around a wait has no way out but its own";
            self.edits.skip(round.loop_token.span, &step, why);
        }
        visit::visit_expr_loop(self, round);
    }
}

impl Scanner<'_> {
    fn method_call(&mut self, whole: &Expr, call: &ExprMethodCall) {
        let call_of = Call {
            whole,
            name: call.method.to_string(),
            name_span: call.method.span(),
            arguments: &call.args,
        };
        let step = self.call(&call_of);
        self.discarded = None;
        self.as_role(None, |scanner| scanner.visit_expr(&call.receiver));
        self.arguments(&call_of, step);
    }

    fn function_call(&mut self, whole: &Expr, call: &ExprCall) {
        let name = match &*call.func {
            Expr::Path(path) => path.path.segments.last().map(|last| &last.ident),
            _ => None,
        };
        let Some(name) = name else {
            return visit::visit_expr_call(self, call);
        };
        let call_of = Call {
            whole,
            name: name.to_string(),
            name_span: name.span(),
            arguments: &call.args,
        };
        let step = self.call(&call_of);
        self.discarded = None;
        self.arguments(&call_of, step);
    }
}
