//! Which loops stand around a condition variable's wait.

use syn::visit::{self, Visit};
use syn::{Block, Expr, ExprAssign};

/// Whether `body` waits on a condition variable: it gives a guard away and gets it back, `guard = condvar.wait(guard)`. That
/// tells it from all else that is called `wait`.
pub(crate) fn waits_in(body: &Block) -> bool {
    let mut waits = Waits(false);
    waits.visit_block(body);
    waits.0
}

struct Waits(bool);

impl<'ast> Visit<'ast> for Waits {
    fn visit_expr_assign(&mut self, assign: &'ast ExprAssign) {
        self.0 |= gives_back(assign);
        visit::visit_expr_assign(self, assign);
    }
}

fn gives_back(assign: &ExprAssign) -> bool {
    let Expr::MethodCall(call) = &*assign.right else {
        return false;
    };
    let waits = ["wait", "wait_until"]
        .iter()
        .any(|name| call.method == name);
    let given = call.args.first();
    let gets = |value: &Expr| Some(value) == given;
    waits
        && match &*assign.left {
            Expr::Tuple(several) => several.elems.iter().any(gets),
            one => gets(one),
        }
}
