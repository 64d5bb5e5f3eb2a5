//! Who may call what, with which arguments. Pure.

use std::collections::HashSet;

use crate::functions::Function;
use crate::protocol::{CallError, Json, Request};

/// Who may call at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Admission {
    /// The programs that may call; `None`: any.
    pub sources: Option<HashSet<String>>,
    /// The users that may call; `None`: any.
    pub users: Option<HashSet<String>>,
    /// Whether a request must say who asks.
    pub require_user: bool,
}

impl Admission {
    /// Refuses what only a room may send, unless that has sent it.
    pub(super) fn admit_origin(request: &Request) -> Result<(), CallError> {
        match request.claims_room() {
            Some(room) if request.vouched_by != Some(room) => Err(CallError::NotByRoom(room)),
            _ => Ok(()),
        }
    }

    /// Refuses `request`, whose origin is admitted, where its source or user may not call `function`, an argument is missing, or
    /// the function itself waits for the answer.
    pub(super) fn admit(&self, request: &Request, function: &Function) -> Result<(), CallError> {
        let terms = &function.terms;
        // What a room may call is the operator's business, as the room is.
        if let Some(room) = terms.room {
            return if request.vouched_by == Some(room) { Ok(()) } else { Err(CallError::NotByRoom(room)) };
        }
        let source = request.source.as_deref();
        if !is_listed(source, &self.sources, true) || !is_listed(source, &terms.sources, true) {
            return Err(CallError::InvalidSource);
        }
        let user = request.user.as_deref();
        if (self.require_user && user.is_none())
            || !is_listed(user, &self.users, false)
            || !is_listed(user, &terms.users, true)
        {
            return Err(CallError::InvalidUser);
        }
        if let Some(name) = terms.params.iter().find(|name| request.args.get(name).is_none_or(Json::is_null)) {
            return Err(CallError::InvalidArguments(format!("{name}: is missing")));
        }
        if request.chain.contains(&request.func) {
            return Err(CallError::Cycle(format!("{} -> {}", request.chain.join(" -> "), request.func)));
        }
        Ok(())
    }
}

/// Whether `list` lets `name` in. Where there is no list everybody is; where there is one, `must_be_named` says whether
/// somebody without a name is kept out.
fn is_listed(name: Option<&str>, list: &Option<HashSet<String>>, must_be_named: bool) -> bool {
    match (list, name) {
        (None, _) => true,
        (Some(list), Some(name)) => list.contains(name),
        (Some(_), None) => !must_be_named,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::functions::{Body, Call, Terms};
    use crate::protocol::{Arguments, Outcome, ROOMS, RequestId, Ticket};

    const ROOM: &str = ROOMS[0];

    struct Nothing;

    impl Body for Nothing {
        fn run(&self, _: &Call, _: Arguments) -> Outcome {
            Ok(().into())
        }

        fn kind(&self) -> &'static str {
            "native"
        }
    }

    fn list(names: &[&str]) -> Option<HashSet<String>> {
        Some(names.iter().map(|&name| name.to_owned()).collect())
    }

    #[track_caller]
    fn check(
        admission: &Admission,
        terms: Terms,
        source: Option<&str>,
        user: Option<&str>,
        expected: Result<(), CallError>,
    ) {
        let function = Function { name: "f".to_owned(), terms, body: Box::new(Nothing) };
        let mut request = Request::new(RequestId::Number(1), "f", Arguments::new());
        request.source = source.map(str::to_owned);
        request.user = user.map(str::to_owned);
        assert_eq!(admission.admit(&request, &function), expected);
    }

    #[test]
    fn without_lists_anyone_may_call() {
        check(&Admission::default(), Terms::default(), None, None, Ok(()));
    }

    #[test]
    fn where_sources_are_listed_a_request_must_name_one_of_them() {
        let admission = Admission { sources: list(&["web"]), ..Admission::default() };
        check(&admission, Terms::default(), Some("web"), None, Ok(()));
        check(&admission, Terms::default(), Some("shell"), None, Err(CallError::InvalidSource));
        check(&admission, Terms::default(), None, None, Err(CallError::InvalidSource));
    }

    #[test]
    fn where_users_are_listed_a_request_may_still_come_from_nobody_unless_a_user_is_required() {
        let mut admission = Admission { users: list(&["tom"]), ..Admission::default() };
        check(&admission, Terms::default(), None, Some("tom"), Ok(()));
        check(&admission, Terms::default(), None, Some("eve"), Err(CallError::InvalidUser));
        check(&admission, Terms::default(), None, None, Ok(()));
        admission.require_user = true;
        check(&admission, Terms::default(), None, None, Err(CallError::InvalidUser));
    }

    #[test]
    fn the_lists_of_a_function_hold_besides_the_general_ones() {
        let admission = Admission { sources: list(&["web", "shell"]), ..Admission::default() };
        let terms = Terms { sources: list(&["shell"]), users: list(&["root"]), ..Terms::default() };
        check(&admission, terms.clone(), Some("shell"), Some("root"), Ok(()));
        check(&admission, terms.clone(), Some("web"), Some("root"), Err(CallError::InvalidSource));
        check(&admission, terms, Some("shell"), None, Err(CallError::InvalidUser));
    }

    #[test]
    fn the_functions_of_a_room_are_called_by_that_room_whatever_the_general_lists_say_and_by_nobody_else() {
        let admission = Admission { sources: list(&["web"]), require_user: true, ..Admission::default() };
        let terms = Terms { room: Some(ROOM), ..Terms::default() };
        let function = Function { name: "f".to_owned(), terms, body: Box::new(Nothing) };
        let request = Request::new(RequestId::Number(1), "f", Arguments::new());
        let by_anybody = Request { source: Some("web".to_owned()), user: Some("tom".to_owned()), ..request.clone() };
        assert_eq!(admission.admit(&by_anybody, &function), Err(CallError::NotByRoom(ROOM)));
        let request = Request { vouched_by: Some(ROOM), ..request };
        assert_eq!(Admission::admit_origin(&request), Ok(()));
        assert_eq!(admission.admit(&request, &function), Ok(()));
    }

    #[test]
    fn what_only_says_that_a_room_has_sent_it_is_refused() {
        let request = |func: &str| Request::new(RequestId::Number(1), func, Arguments::new());
        let by_function = Request { source: Some(ROOM.to_owned()), ..request(&format!("{ROOM}/a")) };
        let by_id = Request { id: RequestId::Text(format!("{ROOM}:a").into()), ..request("f") };
        let by_ticket = Request { ticket: Some(Box::new(Ticket { room: ROOM, value: Json::from(1) })), ..request("f") };
        for request in [by_function, by_id, by_ticket] {
            assert_eq!(Admission::admit_origin(&request), Err(CallError::NotByRoom(ROOM)), "{request:?}");
        }
        assert_eq!(Admission::admit_origin(&Request { source: Some(ROOM.to_owned()), ..request("f") }), Ok(()));
    }

    #[test]
    fn a_required_argument_must_be_there_and_null_is_not_there() {
        let terms = Terms { params: vec!["table".to_owned()], ..Terms::default() };
        let function = Function { name: "f".to_owned(), terms, body: Box::new(Nothing) };
        let admit = |args: &str| {
            let args = serde_json::from_str(args).expect("the test's arguments are an object");
            Admission::default().admit(&Request::new(RequestId::Number(1), "f", args), &function)
        };
        for missing in ["{}", r#"{"other":1}"#, r#"{"table":null}"#] {
            assert_eq!(admit(missing), Err(CallError::InvalidArguments("table: is missing".to_owned())), "{missing}");
        }
        for there in ["0", "false", r#""""#, "[]", "[null]"] {
            assert_eq!(admit(&format!("{{\"table\":{there}}}")), Ok(()), "{there}");
        }
    }
}
