//! What sessions came to, as one page that needs nothing else: data, drawing code and styles are all in it.

use serde::Serialize;

const PAGE: &str = include_str!("page.html");

/// Where the data goes.
const MARK: &str = "/*DATA*/null";

/// The page of these sessions, side by side.
pub fn page(sessions: &[impl Serialize]) -> String {
    let data = serde_json::to_string(sessions).expect("sessions have text for keys");
    // A `<` in the data could end the script element; JSON has no `<` outside of strings.
    let data = data.replace('<', "\\u003c");
    PAGE.replacen(MARK, &data, 1)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn the_page_holds_its_data_and_asks_the_network_for_nothing() {
        let data = serde_json::json!({ "title": "</script><b>" });
        let page = page(std::slice::from_ref(&data));
        assert!(!page.contains(MARK) && !page.contains("</script><b>"));
        let begin = page.find("const sessions = ").unwrap() + "const sessions = ".len();
        let end = begin + page[begin..].find(";\n").unwrap();
        assert_eq!(
            serde_json::from_str::<Value>(&page[begin..end]).unwrap(),
            Value::Array(vec![data])
        );
        for word in ["src=", "href=", "@import", "url(", "fetch("] {
            assert!(!page.contains(word), "{word}");
        }
    }
}
