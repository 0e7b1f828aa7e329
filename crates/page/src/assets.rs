//! The files of the page. They are part of the program, so that it needs nothing else to be looked at.

/// A file of the page.
#[derive(Debug, Clone, Copy)]
pub struct Asset {
    /// Its path in the address.
    pub path: &'static str,
    /// Its media type.
    pub kind: &'static str,
    /// Its content.
    pub content: &'static str,
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

macro_rules! assets {
    ($($path:literal $kind:ident $file:literal),* $(,)?) => {
        &[$(Asset { path: $path, kind: $kind, content: include_str!(concat!("../assets/", $file)) }),*]
    };
}

/// All files of the page.
pub const ASSETS: &[Asset] = assets! {
    "/icon.svg" SVG "icon.svg",
    "/" HTML "index.html",
    "/dataframe-stream.js" SCRIPT "dataframe-stream.js",
    "/dataframe-words.js" SCRIPT "dataframe-words.js",
    "/dataframe.css" CSS "dataframe.css",
    "/dataframe.js" SCRIPT "dataframe.js",
    "/kit.js" SCRIPT "kit.js",
    "/lottery-words.js" SCRIPT "lottery-words.js",
    "/lottery.css" CSS "lottery.css",
    "/lottery.js" SCRIPT "lottery.js",
    "/page.css" CSS "page.css",
    "/page.js" SCRIPT "page.js",
    "/past.js" SCRIPT "past.js",
    "/star.js" SCRIPT "star.js",
    "/store-node.js" SCRIPT "store-node.js",
    "/store-words.js" SCRIPT "store-words.js",
    "/store.js" SCRIPT "store.js",
    "/stream.js" SCRIPT "stream.js",
    "/words.js" SCRIPT "words.js",
};

#[cfg(test)]
mod tests {
    use super::*;

    /// The files of each view, by the beginning of their names. All other files are those of every page.
    const VIEWS: [&[&str]; 3] = [&["/star", "/store"], &["/dataframe"], &["/lottery"]];

    #[test]
    fn each_page_is_small() {
        let is_of = |asset: &Asset, view: &[&str]| view.iter().any(|name| asset.path.starts_with(name));
        for view in VIEWS {
            let others = |asset: &&Asset| VIEWS.iter().any(|other| *other != view && is_of(asset, other));
            let bytes: usize =
                ASSETS.iter().filter(|asset| !others(asset)).map(|asset| asset.content.len()).sum();
            assert!(bytes <= 80 * 1024, "{bytes} bytes with {view:?}");
        }
    }

    #[test]
    fn the_page_asks_nobody_else() {
        for Asset { path, content, .. } in ASSETS {
            // The names of SVG's and XHTML's vocabularies look like addresses.
            let content = content.replace("http://www.w3.org/", "");
            assert!(!content.contains("http://") && !content.contains("https://"), "{path}");
        }
    }
}
