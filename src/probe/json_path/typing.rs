//! What a path may say: functions are typed (RFC 9535, 2.4.3), which the parser knows only in part.

use super::{JsonPath, whole};
use crate::probe::pattern::Pattern;
use jsonpath_rust::parser::model::{
    Comparable, Filter, FilterAtom, FnArg, Literal, Segment, Selector, Test, TestFunction,
};

impl JsonPath {
    /// Checks a query, and makes the regular expressions in it ready.
    pub(super) fn check_segments(&mut self, segments: &[Segment]) -> Result<(), String> {
        segments.iter().try_for_each(|segment| match segment {
            Segment::Descendant(inner) => self.check_segments(std::slice::from_ref(inner)),
            Segment::Selector(selector) => self.check_selector(selector),
            Segment::Selectors(selectors) => selectors.iter().try_for_each(|selector| self.check_selector(selector)),
        })
    }

    fn check_selector(&mut self, selector: &Selector) -> Result<(), String> {
        match selector {
            Selector::Filter(filter) => self.check_filter(filter),
            Selector::Name(_) | Selector::Wildcard | Selector::Index(_) | Selector::Slice(..) => Ok(()),
        }
    }

    fn check_filter(&mut self, filter: &Filter) -> Result<(), String> {
        match filter {
            Filter::Or(filters) | Filter::And(filters) => filters.iter().try_for_each(|one| self.check_filter(one)),
            Filter::Atom(FilterAtom::Filter { expr, .. }) => self.check_filter(expr),
            Filter::Atom(FilterAtom::Test { expr, .. }) => match expr.as_ref() {
                Test::Function(function) if !is_match(function) => {
                    Err(format!("{} is a value, and has to be compared", name(function)))
                }
                test @ (Test::RelQuery(_) | Test::AbsQuery(_) | Test::Function(_)) => self.check_test(test),
            },
            Filter::Atom(FilterAtom::Comparison(comparison)) => {
                let (left, right) = comparison.vals();
                self.check_comparable(left)?;
                self.check_comparable(right)
            }
        }
    }

    fn check_comparable(&mut self, comparable: &Comparable) -> Result<(), String> {
        match comparable {
            Comparable::Function(function) if is_match(function) => {
                Err(format!("{} is true or false, and cannot be compared", name(function)))
            }
            Comparable::Function(function) => self.check_function(function),
            Comparable::Literal(_) | Comparable::SingularQuery(_) => Ok(()),
        }
    }

    fn check_test(&mut self, test: &Test) -> Result<(), String> {
        match test {
            Test::RelQuery(segments) => self.check_segments(segments),
            Test::AbsQuery(query) => self.check_segments(&query.segments),
            Test::Function(function) => self.check_function(function),
        }
    }

    fn check_function(&mut self, function: &TestFunction) -> Result<(), String> {
        match function {
            TestFunction::Length(argument) => self.check_value(argument, function),
            TestFunction::Count(argument) | TestFunction::Value(argument) => match argument {
                FnArg::Test(test) if !matches!(test.as_ref(), Test::Function(_)) => self.check_test(test),
                FnArg::Test(_) | FnArg::Literal(_) | FnArg::Filter(_) => {
                    Err(format!("{} wants a query, like {}(@.*)", name(function), name(function)))
                }
            },
            TestFunction::Match(text, pattern) | TestFunction::Search(text, pattern) => {
                self.check_value(text, function)?;
                self.check_value(pattern, function)?;
                if let FnArg::Literal(Literal::String(pattern)) = pattern {
                    let whole = whole(function);
                    let ready = Pattern::i_regexp(pattern, whole);
                    self.patterns.push((pattern.clone(), whole, ready));
                }
                Ok(())
            }
            TestFunction::Custom(custom, _) => Err(format!("{custom} is not a function of RFC 9535")),
        }
    }

    /// An argument that is one value.
    fn check_value(&mut self, argument: &FnArg, function: &TestFunction) -> Result<(), String> {
        let refusal = || format!("{} wants one value, and not a query for several", name(function));
        match argument {
            FnArg::Literal(_) => Ok(()),
            FnArg::Filter(_) => Err(refusal()),
            FnArg::Test(test) => match test.as_ref() {
                Test::Function(inner) if is_match(inner) => Err(refusal()),
                Test::RelQuery(segments) if !segments.iter().all(is_singular) => Err(refusal()),
                Test::AbsQuery(query) if !query.segments.iter().all(is_singular) => Err(refusal()),
                test @ (Test::RelQuery(_) | Test::AbsQuery(_) | Test::Function(_)) => self.check_test(test),
            },
        }
    }
}

fn is_match(function: &TestFunction) -> bool {
    matches!(function, TestFunction::Match(..) | TestFunction::Search(..) | TestFunction::Custom(..))
}

fn is_singular(segment: &Segment) -> bool {
    matches!(segment, Segment::Selector(Selector::Name(_) | Selector::Index(_)))
}

fn name(function: &TestFunction) -> &str {
    match function {
        TestFunction::Custom(name, _) => name,
        TestFunction::Length(_) => "length",
        TestFunction::Value(_) => "value",
        TestFunction::Count(_) => "count",
        TestFunction::Search(..) => "search",
        TestFunction::Match(..) => "match",
    }
}
