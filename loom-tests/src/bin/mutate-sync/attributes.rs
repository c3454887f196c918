//! Which parts of a source the models do not contain, by their `#[cfg]`.

use syn::punctuated::Punctuated;
use syn::{Attribute, Expr, ImplItem, Item, Meta, Stmt, Token};

/// Something that may stand under `#[cfg]`.
pub(crate) trait Attributed {
    fn attributes(&self) -> &[Attribute];
}

/// Whether one of the attributes keeps this from being compiled for the models: it asks for `test`, or for the absence of
/// `proactor_loom`. What it says of the platform is not looked at.
pub(crate) fn is_absent(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute
                .parse_args::<Meta>()
                .is_ok_and(|condition| holds(&condition) == Some(false))
    })
}

/// Whether the condition holds in the models; none if that is not for this tool to know.
fn holds(condition: &Meta) -> Option<bool> {
    let Meta::List(list) = condition else {
        let known = |name| condition.path().is_ident(name);
        return match () {
            () if known("proactor_loom") => Some(true),
            () if known("test") => Some(false),
            () => None,
        };
    };
    let parts = list
        .parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated)
        .ok()?;
    let parts: Vec<_> = parts.iter().map(holds).collect();
    // One part of that value settles it; else it is settled only if each part is known.
    let settled = |by: bool| {
        if parts.contains(&Some(by)) {
            Some(by)
        } else {
            (!parts.contains(&None)).then_some(!by)
        }
    };
    match () {
        () if list.path.is_ident("all") => settled(false),
        () if list.path.is_ident("any") => settled(true),
        () if list.path.is_ident("not") => parts.first().copied().flatten().map(|part| !part),
        () => None,
    }
}

impl Attributed for Item {
    fn attributes(&self) -> &[Attribute] {
        match self {
            Self::Const(item) => &item.attrs,
            Self::Enum(item) => &item.attrs,
            Self::Fn(item) => &item.attrs,
            Self::Impl(item) => &item.attrs,
            Self::Macro(item) => &item.attrs,
            Self::Mod(item) => &item.attrs,
            Self::Static(item) => &item.attrs,
            Self::Struct(item) => &item.attrs,
            Self::Trait(item) => &item.attrs,
            _ => &[],
        }
    }
}

impl Attributed for ImplItem {
    fn attributes(&self) -> &[Attribute] {
        match self {
            Self::Const(item) => &item.attrs,
            Self::Fn(item) => &item.attrs,
            Self::Macro(item) => &item.attrs,
            _ => &[],
        }
    }
}

impl Attributed for Stmt {
    fn attributes(&self) -> &[Attribute] {
        match self {
            Self::Local(local) => &local.attrs,
            Self::Macro(made) => &made.attrs,
            Self::Expr(value, _) => leftmost(value).attributes(),
            Self::Item(item) => item.attributes(),
        }
    }
}

/// What the attributes of a statement stand at, once it is parsed.
fn leftmost(value: &Expr) -> &Expr {
    match value {
        Expr::Assign(assign) => leftmost(&assign.left),
        Expr::Binary(binary) => leftmost(&binary.left),
        _ => value,
    }
}

impl Attributed for Expr {
    fn attributes(&self) -> &[Attribute] {
        match self {
            Self::Block(value) => &value.attrs,
            Self::Call(value) => &value.attrs,
            Self::ForLoop(value) => &value.attrs,
            Self::If(value) => &value.attrs,
            Self::Loop(value) => &value.attrs,
            Self::Macro(value) => &value.attrs,
            Self::Match(value) => &value.attrs,
            Self::MethodCall(value) => &value.attrs,
            Self::Field(value) => &value.attrs,
            Self::Path(value) => &value.attrs,
            Self::Unary(value) => &value.attrs,
            Self::Return(value) => &value.attrs,
            Self::Unsafe(value) => &value.attrs,
            Self::While(value) => &value.attrs,
            _ => &[],
        }
    }
}
